"""The real kubectl on both servers: each case runs the same calls and compares their output.

Ages, identities, versions and the widths of columns are left out of the comparison.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.kube_objects import (
    DRIVER,
    LEASES,
    claim,
    device,
    event,
    job,
    lease,
    pod,
    resource_slice,
    taint,
)
from support.raw_api import MERGE_PATCH, Json, RawApi
from support.realkube.kubectl import Kubectl, Output, comparable, plain_kubeconfig
from support.realkube.server import RealServer

pytestmark = pytest.mark.needs_go

OLD = "2026-11-24T01:02:03Z"
RESOURCE = "resource.k8s.io/v1"
TAINT = {"key": f"{DRIVER}/drain", "value": "yes", "effect": "None", "timeAdded": OLD}
SELECTOR = {"cel": {"expression": f"device.driver == '{DRIVER}'"}}


def manifest(api_version: str, kind: str, name: str, **fields: object) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def manifests(name: str) -> dict[str, Json]:
    """One object of each kind that a person of ours looks at."""
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"case": name}}}
    rule = {"deviceSelector": {"driver": DRIVER, "pool": "node-a", "device": "gpu-0"}, "taint": TAINT}
    return {
        "node": manifest("v1", "Node", name),
        "pod": pod(name),
        "event": {**event(name), "message": "hello"},
        "configmap": manifest("v1", "ConfigMap", name, data={"a": "b"}),
        "lease": lease(name),
        "job": {**manifest("batch/v1", "Job", name), "spec": job(name)["spec"]},
        "poddisruptionbudget": manifest("policy/v1", "PodDisruptionBudget", name, spec=budget),
        "resourceslice": resource_slice(name, device("gpu-0", taint(timeAdded=OLD)), device("gpu-1")),
        "resourceclaim": claim(name),
        "resourceclaimtemplate": manifest(
            RESOURCE, "ResourceClaimTemplate", name, spec={"spec": claim(name)["spec"]}
        ),
        "deviceclass": manifest(RESOURCE, "DeviceClass", name, spec={"selectors": [SELECTOR]}),
        "devicetaintrule": manifest(RESOURCE, "DeviceTaintRule", name, spec=rule),
    }


KINDS = tuple(manifests("a"))


def labelled(body: Json) -> Json:
    changed = copy.deepcopy(body)
    changed["metadata"]["labels"] = {"changed": "yes"}
    return changed


class Both:
    """kubectl against the real and against the embedded server."""

    def __init__(self, real: Kubectl, sim: Kubectl) -> None:
        self.real = real
        self.sim = sim

    def same(self, *arguments: str, manifest: Json | None = None) -> Output:
        """The common output of both servers."""
        expected = self.real.run(*arguments, manifest=manifest)
        assert self.sim.run(*arguments, manifest=manifest) == expected
        return expected


@pytest.fixture(scope="module")
def kubectl(real_server: RealServer, sim_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("kubectl")
    plain = folder / "sim.json"
    plain.write_text(json.dumps(plain_kubeconfig(sim_server.url)), encoding="utf-8")
    for name in ("real", "sim"):
        (folder / name).mkdir()
    return Both(Kubectl(real_server.kubeconfig, folder / "real"), Kubectl(plain, folder / "sim"))


@pytest.mark.parametrize("kind", KINDS)
def test_apply_creates_leaves_and_changes(kubectl: Both, unique: str, kind: str) -> None:
    body = manifests(unique)[kind]
    created = kubectl.same("apply", "-f", "-", manifest=body)
    unchanged = kubectl.same("apply", "-f", "-", manifest=body)
    configured = kubectl.same("apply", "-f", "-", manifest=labelled(body))

    words = [output.out.split()[-1] for output in (created, unchanged, configured)]
    # Of some kinds kubectl says "configured" when nothing changed, for the real server too.
    assert words == ["created", words[1], "configured"]
    assert words[1] == "unchanged" or kind in (
        "poddisruptionbudget",
        "resourceclaim",
        "resourceclaimtemplate",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_server_side_apply_creates_leaves_and_changes(kubectl: Both, unique: str, kind: str) -> None:
    body = manifests(unique)[kind]
    outputs = [
        kubectl.same("apply", "--server-side", "-f", "-", manifest=each)
        for each in (body, body, labelled(body))
    ]

    assert [output.code for output in outputs] == [0, 0, 0]
    assert all(output.out.endswith(" serverside-applied") for output in outputs)
    kubectl.same("get", kind, unique, "-o", "yaml", "--show-managed-fields")


@pytest.mark.parametrize("kind", KINDS)
def test_get_in_every_form_and_describe(kubectl: Both, unique: str, kind: str) -> None:
    kubectl.same("apply", "-f", "-", manifest=manifests(unique)[kind])
    for form in ("", "wide", "yaml", "json", "name", "jsonpath={.metadata.name}"):
        assert kubectl.same("get", kind, unique, *(["-o", form] if form else [])).code == 0
    kubectl.same("get", kind, unique, "--show-labels", "--no-headers")
    kubectl.same("get", kind, "--sort-by=.metadata.name", "--field-selector", f"metadata.name={unique}")
    kubectl.same("get", kind, unique, "-o", "custom-columns=NAME:.metadata.name,KIND:.kind")

    assert kubectl.same("describe", kind, unique).code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_delete_and_what_is_then_said(kubectl: Both, unique: str, kind: str) -> None:
    kubectl.same("create", "-f", "-", manifest=manifests(unique)[kind])
    kubectl.same("create", "-f", "-", manifest=manifests(unique)[kind])
    deleted = kubectl.same("delete", kind, unique, "--wait=false", "--cascade=background")
    gone = kubectl.same("get", kind, unique)

    assert deleted.code == 0
    assert (gone.code, gone.out) == (1, "")
    assert gone.err.startswith("Error from server (NotFound): ")


def test_label_annotate_and_the_three_patches(kubectl: Both, unique: str) -> None:
    kubectl.same("create", "-f", "-", manifest=lease(unique))
    kubectl.same("label", "lease", unique, "a=b")
    kubectl.same("annotate", "lease", unique, "c=d")
    kubectl.same("patch", "lease", unique, "-p", '{"spec":{"holderIdentity":"b"}}')
    kubectl.same("patch", "lease", unique, "--type=merge", "-p", '{"metadata":{"labels":{"a":null}}}')
    test = '[{"op":"test","path":"/spec/holderIdentity","value":"x"}]'
    assert kubectl.same("patch", "lease", unique, "--type=json", "-p", test).code == 1

    kubectl.same("get", "lease", unique, "-o", "yaml", "--show-managed-fields")


def test_a_conflict_between_both_kinds_of_apply(kubectl: Both, unique: str) -> None:
    kubectl.same("apply", "-f", "-", manifest=lease(unique, "a"))
    body = lease(unique, "b")
    refused = kubectl.same("apply", "--server-side", "--field-manager=other", "-f", "-", manifest=body)
    forced = kubectl.same(
        "apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", manifest=body
    )

    assert (refused.code, forced.code) == (1, 0)
    assert 'conflict with "kubectl-client-side-apply"' in refused.err


def test_a_misspelt_field_is_refused_or_warned_about(kubectl: Both, unique: str) -> None:
    body = {**lease(unique), "spec": {"holder": "a"}}
    strict = kubectl.same("create", "-f", "-", manifest=body)
    lenient = kubectl.same("create", "-f", "-", "--validate=warn", manifest=body)

    assert (strict.code, lenient.code) == (1, 0)
    assert 'strict decoding error: unknown field "spec.holder"' in strict.err
    assert lenient.err == 'Warning: unknown field "spec.holder"'


def test_an_invalid_object_is_explained(kubectl: Both, unique: str) -> None:
    bad = resource_slice(unique, device("gpu-0", taint("PreferNoSchedule")))

    assert kubectl.same("apply", "-f", "-", manifest=bad).code == 1


def test_cordon_taint_and_drain(kubectl: Both, unique: str) -> None:
    kubectl.same("create", "-f", "-", manifest=manifests(unique)["node"])
    kubectl.same("cordon", unique)
    kubectl.same("taint", "node", unique, "gpu.health/unhealthy=true:NoSchedule")
    kubectl.same("get", "node", unique)
    kubectl.same("describe", "node", unique)
    kubectl.same("uncordon", unique)

    assert kubectl.same("drain", unique, "--ignore-daemonsets").code == 0
    kubectl.same("get", "node", unique, "-o", "yaml")


def test_a_dry_run_on_the_server_stores_nothing(kubectl: Both, unique: str) -> None:
    kubectl.same("apply", "-f", "-", "--dry-run=server", "-o", "yaml", manifest=lease(unique))

    assert kubectl.same("get", "lease", unique).code == 1


def test_what_there_is_to_ask_for(kubectl: Both) -> None:
    kubectl.same("api-resources", "--api-group=resource.k8s.io", "-o", "wide")
    kubectl.same("api-resources", "--api-group=coordination.k8s.io")
    kubectl.same("version")

    assert kubectl.same("get", "nothings").code == 1


@contextmanager
def watching(kubectl: Kubectl, *arguments: str) -> Iterator["Lines"]:
    process = kubectl.start("get", *arguments, "-w", "--output-watch-events")
    try:
        assert process.stdout is not None
        yield Lines(process.stdout)
    finally:
        process.terminate()
        process.communicate(timeout=10)


class Lines:
    """The lines of a running call, as they come."""

    def __init__(self, stream: Iterator[str]) -> None:
        self._stream = stream

    def take(self, count: int) -> list[str]:
        return [comparable(next(self._stream)) for _ in range(count)]


def test_get_w_tells_what_happens(
    kubectl: Both, real_server: RealServer, sim_server: ApiServer, unique: str
) -> None:
    def told(program: Kubectl, api: RawApi) -> list[str]:
        with watching(program, "leases", "-l", f"case={unique}") as lines:
            api.post(LEASES, lease(unique, "a", labels={"case": unique}))
            seen = lines.take(2)
            api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "b"}})
            seen += lines.take(1)
            api.delete(f"{LEASES}/{unique}")
            return seen + lines.take(1)

    expected = told(kubectl.real, real_server.api)
    assert told(kubectl.sim, RawApi(sim_server.url)) == expected
    assert [line.split()[0] for line in expected] == ["EVENT", "ADDED", "MODIFIED", "DELETED"]
