"""Representations for kubectl: tables, partial objects, discovery."""

from typing import Any

import pytest

from support.kube_objects import (
    CLAIMS,
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    RULES,
    SLICES,
    allocate,
    claim,
    event,
    job,
    lease,
    pod,
    resource_slice,
)
from support.raw_api import MERGE_PATCH, TABLE, Json, RawApi

PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
GROUP_VERSIONS = (
    "/api/v1",
    "/apis/resource.k8s.io/v1",
    "/apis/coordination.k8s.io/v1",
    "/apis/batch/v1",
    "/apis/policy/v1",
    "/apis/apps/v1",
    "/apis/apiextensions.k8s.io/v1",
    "/apis/events.k8s.io/v1",
)
TIMES = ("Age", "Last Seen", "First Seen", "TimeAdded")


def row(api: RawApi, path: str) -> dict[str, Any]:
    """The cells of a table's only row by their columns, `*` marking the wide ones; no ages."""
    table = api.get(path, accept=TABLE).body
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    [only] = table["rows"]
    names = [column["name"] + "*" * column["priority"] for column in table["columnDefinitions"]]
    return {
        name: cell for name, cell in zip(names, only["cells"], strict=True) if name.strip("*") not in TIMES
    }


def test_a_node(api: RawApi, unique: str) -> None:
    api.post(NODES, {"metadata": {"name": unique}, "spec": {"unschedulable": True}})

    assert row(api, f"{NODES}/{unique}") == {
        "Name": unique,
        "Status": "Unknown,SchedulingDisabled",
        "Roles": "<none>",
        "Version": "",
        "Internal-IP*": "<none>",
        "External-IP*": "<none>",
        "OS-Image*": "<unknown>",
        "Kernel-Version*": "<unknown>",
        "Container-Runtime*": "<unknown>",
    }


def test_a_pod(api: RawApi, unique: str) -> None:
    api.post(PODS, pod(unique))

    assert row(api, f"{PODS}/{unique}") == {
        "Name": unique,
        "Ready": "0/1",
        "Status": "Pending",
        "Restarts": "0",
        "IP*": "<none>",
        "Node*": "<none>",
        "Nominated Node*": "<none>",
        "Readiness Gates*": "<none>",
    }


def test_an_event(api: RawApi, unique: str) -> None:
    api.post(
        EVENTS, {**event(unique), "message": "hello\n", "count": 3, "source": {"component": "c", "host": "h"}}
    )

    assert row(api, f"{EVENTS}/{unique}") == {
        "Type": "Normal",
        "Reason": "Tested",
        "Object": "pod/p",
        "Subobject*": "",
        "Source*": "c, h",
        "Message": "hello",
        "Count*": 3,
        "Name*": unique,
    }


def test_a_slice_a_lease_and_a_job(api: RawApi, unique: str) -> None:
    api.post(SLICES, resource_slice(unique))
    api.post(LEASES, lease(unique, "me"))
    api.post(JOBS, job(unique))
    seen = row(api, f"{JOBS}/{unique}")

    assert row(api, f"{SLICES}/{unique}") == {
        "Name": unique,
        "Node": "node-a",
        "Driver": "gpu.vitals.internal",
        "Pool": "node-a",
    }
    assert row(api, f"{LEASES}/{unique}") == {"Name": unique, "Holder": "me"}
    assert (seen["Status"], seen["Completions"], seen["Images*"]) == ("Running", "0/1", "gpu-job:1")


def test_a_claim_through_its_states(api: RawApi, unique: str) -> None:
    made = api.post(CLAIMS, claim(unique)).body
    path = f"{CLAIMS}/{unique}"
    states = [row(api, path)["State"]]
    allocate(api, made, "gpu-0")
    states.append(row(api, path)["State"])
    body: Json = {"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}}
    api.patch(f"{path}/status", MERGE_PATCH, body)
    states.append(row(api, path)["State"])

    assert states == ["pending", "allocated", "allocated,reserved"]


def test_a_taint_rule(api: RawApi, unique: str) -> None:
    taint = {"key": "k", "value": "v", "effect": "None"}
    api.post(RULES, {"metadata": {"name": unique}, "spec": {"taint": taint}})

    assert row(api, f"{RULES}/{unique}") == {"Name": unique, "Key": "k", "Value": "v", "Effect": "None"}


def test_a_row_carries_only_the_metadata_unless_asked(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    path = f"{LEASES}/{unique}"
    kinds = {
        include: api.get(path, accept=TABLE, **({"includeObject": include} if include else {})).body["rows"][
            0
        ]
        for include in ("", "Metadata", "Object", "None")
    }

    assert kinds[""]["object"]["kind"] == kinds["Metadata"]["object"]["kind"] == "PartialObjectMetadata"
    assert kinds["Object"]["object"]["spec"] == {"holderIdentity": "a"}
    assert kinds["None"]["object"] is None


def test_a_whole_object_in_a_row_has_its_kind(api: RawApi, unique: str) -> None:
    """Finding U4: `kubectl get --sort-by` decodes each row by it. Items of a plain list have none."""
    api.post(LEASES, lease(unique))
    field = f"metadata.name={unique}"
    row = api.get(LEASES, accept=TABLE, includeObject="Object", fieldSelector=field).body["rows"][0]

    assert (row["object"]["kind"], row["object"]["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")


def test_a_list_of_metadata(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.get(LEASES, accept=PARTIAL, fieldSelector=f"metadata.name={unique}").body

    assert answer["kind"] == "PartialObjectMetadataList"
    assert [item["metadata"]["name"] for item in answer["items"]] == [unique]
    assert "spec" not in answer["items"][0]


DISCOVERED = {
    "nodes": ("Node", False, ["no"]),
    "pods": ("Pod", True, ["po"]),
    "events": ("Event", True, ["ev"]),
    "namespaces": ("Namespace", False, ["ns"]),
    "jobs": ("Job", True, []),
    "daemonsets": ("DaemonSet", True, ["ds"]),
    "replicasets": ("ReplicaSet", True, ["rs"]),
    "leases": ("Lease", True, []),
    "poddisruptionbudgets": ("PodDisruptionBudget", True, ["pdb"]),
    "resourceslices": ("ResourceSlice", False, []),
    "resourceclaims": ("ResourceClaim", True, []),
    "resourceclaimtemplates": ("ResourceClaimTemplate", True, []),
    "deviceclasses": ("DeviceClass", False, []),
    "devicetaintrules": ("DeviceTaintRule", False, []),
    "customresourcedefinitions": ("CustomResourceDefinition", False, ["crd", "crds"]),
}


def test_discovery_names_our_kinds(api: RawApi) -> None:
    found = {
        each["name"]: (each["kind"], each["namespaced"], each.get("shortNames", []))
        for path in GROUP_VERSIONS
        for each in api.get(path).body["resources"]
    }

    assert {name: found[name] for name in DISCOVERED} == DISCOVERED


@pytest.mark.parametrize(
    ("path", "name", "verbs"),
    [
        ("/api/v1", "namespaces", ["create", "delete", "get", "list", "patch", "update", "watch"]),
        ("/api/v1", "pods/eviction", ["create"]),
        ("/api/v1", "nodes/status", ["get", "patch", "update"]),
        (
            "/apis/resource.k8s.io/v1",
            "resourceslices",
            ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        ),
        ("/apis/resource.k8s.io/v1", "resourceclaims/status", ["get", "patch", "update"]),
    ],
)
def test_discovery_names_the_verbs(api: RawApi, path: str, name: str, verbs: list[str]) -> None:
    found = {each["name"]: each["verbs"] for each in api.get(path).body["resources"]}

    assert sorted(found[name]) == verbs


def test_the_aggregated_document_says_the_same(api: RawApi) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = {item["metadata"]["name"]: item for item in api.get("/apis", accept=accept).body["items"]}
    [version] = [each for each in groups["resource.k8s.io"]["versions"] if each["version"] == "v1"]
    found = {each["resource"]: each for each in version["resources"]}

    assert found["resourceclaims"]["responseKind"]["kind"] == "ResourceClaim"
    assert found["resourceclaims"]["scope"] == "Namespaced"
    assert [each["subresource"] for each in found["resourceclaims"]["subresources"]] == ["status"]


def test_the_version_is_that_of_the_pinned_server(api: RawApi) -> None:
    version = api.get("/version").body

    assert (version["major"], version["minor"], version["gitVersion"]) == ("1", "37", "v1.37.2")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_is_one_word(api: RawApi, path: str) -> None:
    assert api.get(path, accept="text/plain").body == {"text": "ok"}
