"""Chart and agent agree: flags, files, names, paths, ports, rights. Read from the golden files, so no helm is needed."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.agents import path_of
from chart.rendering import CHART, SETS, golden_objects, one_of
from gpuvitals.cli.node import add_parser
from gpuvitals.config import load_config
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.sockets import socket_paths
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.cel.device import CelDevice
from gpuvitals_sim.cel.selector import Selector
from gpuvitals_sim.scheduler.node_filter import refusal
from support.raw_api import RawApi

Json = dict[str, Any]

POD_UID = "0" * 36
NAMES = [values.name for values in SETS]


def container(name: str) -> Json:
    return pod(name)["containers"][0]


def pod(name: str) -> Json:
    found: Json = one_of(golden_objects(name), "DaemonSet")["spec"]["template"]["spec"]
    return found


def parsed(name: str) -> argparse.Namespace:
    """The flags of the container, read by the agent's own parser."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_parser(parser.add_subparsers())
    given = container(name)
    program, *verb = given["command"]
    assert program == "gpuvitals"
    return parser.parse_args([*verb, *given["args"]])


@pytest.mark.parametrize("name", NAMES)
def test_the_agent_takes_every_flag(name: str) -> None:
    options = parsed(name)

    assert options.config == Path("/etc/gpuvitals/node.yaml")
    assert socket_paths("gpu.vitals.internal", POD_UID, options.state_dir, options.registry_dir)


def test_a_later_flag_of_the_user_wins() -> None:
    assert parsed("everything").log_level == "debug"


@pytest.mark.parametrize("name", NAMES)
def test_the_agent_takes_its_file(name: str, tmp_path: Path) -> None:
    data = one_of(golden_objects(name), "ConfigMap")["data"]
    path = tmp_path / "node.yaml"
    path.write_text(data["node.yaml"], encoding="utf-8")
    config = load_config(path)

    role = one_of(golden_objects(name), "ClusterRole", "-agent")
    (driver,) = (each["resourceNames"] for each in role["rules"] if "resourceNames" in each)
    assert driver == [config.driver]


def test_the_charts_names_are_the_agents_defaults() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert Naming() == Naming(
        driver=values["driverName"],
        api_group=values["apiGroup"],
        attribute_domain=values["attributeDomain"],
    )
    assert container("default")["args"][0] == "--state-dir=/var/lib/kubelet/plugins/gpu.vitals.internal"


@pytest.mark.parametrize("name", NAMES)
def test_paths_that_kubelet_and_runtime_are_told_are_the_same_inside_and_outside(name: str) -> None:
    options, spec = parsed(name), pod(name)
    mounts = {mount["mountPath"]: mount for mount in container(name)["volumeMounts"]}
    sources = {volume["name"]: volume.get("hostPath", {}).get("path") for volume in spec["volumes"]}

    for path in (options.state_dir, options.registry_dir, options.cdi_dir):
        assert sources[mounts[str(path)]["name"]] == str(path)
    assert sources[mounts[str(options.driver_root)]["name"]] == str(options.driver_root_on_host)
    if options.dev_root == Path("/"):
        assert sources[mounts["/dev"]["name"]] == "/dev"
    else:
        assert sources[mounts[str(options.dev_root)]["name"]] == str(options.dev_root_on_host)
    assert len(mounts) == len(container(name)["volumeMounts"]), "two mounts on one path"
    # A device is there by privilege; a file must be mounted.
    if not options.kernel_log.is_relative_to("/dev"):
        assert sources[mounts[str(options.kernel_log)]["name"]] == str(options.kernel_log)
    if options.sysfs_root != Path("/sys"):
        assert sources[mounts[str(options.sysfs_root)]["name"]] == str(options.sysfs_root)


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_what_the_agent_answers_where_it_listens(name: str) -> None:
    host, _, port = parsed(name).probe_address.rpartition(":")
    given = container(name)
    probes = {key: given[key]["httpGet"] for key in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert {key: probe["path"] for key, probe in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {(probe.get("host", "[::]"), str(probe["port"])) for probe in probes.values()} == {(host, port)}


def test_an_agent_whose_loop_stands_still_is_restarted_within_a_minute() -> None:
    given, spec = container("default"), pod("default")
    probe = given["livenessProbe"]
    noticed = 10 + probe["periodSeconds"] * (probe["failureThreshold"] + 1) + probe["timeoutSeconds"]

    assert noticed + spec["terminationGracePeriodSeconds"] < 60


@pytest.mark.parametrize("name", NAMES)
def test_the_pod_is_privileged_with_a_read_only_root_and_holds_no_port_of_the_node(name: str) -> None:
    given, spec = container(name), pod(name)

    assert given["securityContext"] == {
        "privileged": True,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "runAsGroup": 0,
    }
    assert spec["priorityClassName"] == "system-node-critical"
    assert not any("hostPort" in port for port in given.get("ports", []))
    assert not spec.get("hostPID")
    assert not spec.get("hostIPC")
    assert {"requests", "limits"} <= set(given["resources"])
    # On the host's network a declared port is one of the node, and a second pod would not be placed.
    assert ("ports" in given) is not spec.get("hostNetwork", False)


def test_two_agents_overlap_in_an_update_and_are_told_apart() -> None:
    strategy = one_of(golden_objects(), "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
    fields = {
        each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"]
        for each in container("default")["env"]
        if "valueFrom" in each
    }

    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
    assert fields == {"NODE_NAME": "spec.nodeName", "POD_UID": "metadata.uid"}


@pytest.mark.parametrize("name", NAMES)
def test_the_policies_are_about_the_account_of_the_pod_and_about_one_driver(name: str) -> None:
    found = golden_objects(name)
    account = pod(name)["serviceAccountName"]
    policies = [each for each in found if each["kind"] == "ValidatingAdmissionPolicy"]
    bound = {
        each["spec"]["policyName"]: each["spec"]["validationActions"]
        for each in found
        if each["kind"] == "ValidatingAdmissionPolicyBinding"
    }
    (subject,) = one_of(found, "ClusterRoleBinding")["subjects"]

    assert subject == {"kind": "ServiceAccount", "name": account, "namespace": "gpuvitals"}
    assert bound == {policy["metadata"]["name"]: ["Deny"] for policy in policies}
    assert len(policies) == 3
    for policy in policies:
        assert policy["spec"]["failurePolicy"] == "Fail"
        (condition,) = policy["spec"]["matchConditions"]
        assert (
            condition["expression"]
            == f'request.userInfo.username == "system:serviceaccount:gpuvitals:{account}"'
        )
        assert {each["reason"] for each in policy["spec"]["validations"]} == {"Forbidden"}


@pytest.fixture(scope="module")
def embedded() -> Iterator[RawApi]:
    with ApiServer() as server:
        yield RawApi(server.url)


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_api_server_accepts_what_it_serves(name: str, embedded: RawApi) -> None:
    """Of the rest it says so: a kind that is not served is a 404 of the path, never a refusal."""
    embedded.post("/api/v1/namespaces", {"metadata": {"name": "gpuvitals"}})
    answers = {
        each["kind"]: embedded.post(path_of(each), each, dryRun="All").status
        for each in golden_objects(name)
        if each["kind"] != "PodMonitor"
    }

    assert set(answers.values()) <= {201, 404}
    assert {kind for kind, status in answers.items() if status == 201} >= {"DaemonSet", "ConfigMap"}


NFD = {
    "feature.node.kubernetes.io/kernel-version.major": "6",
    "feature.node.kubernetes.io/system-os_release.ID": "ubuntu",
}
LINUX = {"kubernetes.io/os": "linux"}


@pytest.mark.parametrize(
    ("labels", "auto", "only"),
    [
        ({**LINUX}, True, False),
        ({**LINUX, **NFD}, False, False),
        ({**LINUX, **NFD, "feature.node.kubernetes.io/pci-1002.present": "true"}, False, False),
        ({**LINUX, **NFD, "feature.node.kubernetes.io/pci-10de.present": "true"}, True, True),
        ({**LINUX, **NFD, "feature.node.kubernetes.io/pci-0302_10de.present": "true"}, True, True),
        ({**LINUX, **NFD, "feature.node.kubernetes.io/pci-0300_10de.present": "true"}, True, True),
        ({**LINUX, **NFD, "nvidia.com/gpu.present": "true"}, True, True),
        ({**LINUX, "nvidia.com/gpu.present": "true"}, True, True),
        ({**LINUX, "nvidia.com/gpu.present": "false"}, False, False),
        ({"kubernetes.io/os": "windows"}, False, False),
        ({"kubernetes.io/os": "windows", "nvidia.com/gpu.present": "true"}, False, False),
    ],
    ids=str,
)
def test_the_agent_runs_on_nodes_labelled_with_a_gpu_and_on_unlabelled_nodes(
    labels: dict[str, str], auto: bool, only: bool
) -> None:
    """Finding U5: Linux nodes with NVIDIA GPUs, by the labels of NFD or of the GPU Operator where there are any."""
    node = {"metadata": {"name": "node-a", "labels": {"kubernetes.io/arch": "amd64", **labels}}}

    assert (refusal({"spec": pod("default")}, node) == "") is auto
    assert (refusal({"spec": pod("everything")}, node) == "") is only


@pytest.mark.parametrize("name", NAMES)
def test_the_image_searches_nvml_at_the_driver_root_also_after_a_later_mount(name: str) -> None:
    mounts = [each for each in container(name)["volumeMounts"] if each["name"] == "driver-root"]

    assert [each["mountPath"] for each in mounts] == [str(parsed(name).driver_root)] == ["/driver-root"]
    assert all(each["mountPropagation"] == "HostToContainer" and each["readOnly"] for each in mounts)


def device(driver: str, kind: str = "gpu", **health: Json) -> CelDevice:
    """A published device; its keys are those of `health/`."""
    attributes = {f"health/{key}": each for key, each in health.items()}
    return CelDevice(driver, {"name": "gpu-0", "attributes": {"type": {"string": kind}, **attributes}})


WELL: Json = {"score": {"int": 100}, "xidErrors": {"int": 0}, "nvlinkStatus": {"string": "active"}}


@pytest.mark.parametrize(
    ("changed", "healthy"),
    [
        ({}, True),
        ({"score": {"int": 91}}, True),
        ({"score": {"int": 90}}, False),
        ({"score": {"int": 0}}, False),
        ({"xidErrors": {"int": 1}}, False),
        ({"nvlinkStatus": {"string": "none"}}, True),
        ({"nvlinkStatus": {"string": "degraded"}}, False),
        ({"nvlinkStatus": {"string": "unknown"}}, False),
    ],
    ids=str,
)
def test_the_class_of_healthy_gpus_takes_those_and_the_class_of_all_takes_each(
    changed: Json, healthy: bool
) -> None:
    found = {
        each["metadata"]["name"]: Selector(each["spec"]["selectors"][0]["cel"]["expression"])
        for each in golden_objects()
        if each["kind"] == "DeviceClass"
    }
    gpu = device("gpu.vitals.internal", **{**WELL, **changed})

    assert found["healthy.gpu.vitals.internal"].matches(gpu) is healthy
    assert found["gpu.vitals.internal"].matches(gpu)
    part = device("gpu.vitals.internal", "mig", **WELL)
    assert not found["healthy.gpu.vitals.internal"].matches(part)
    assert found["gpu.vitals.internal"].matches(part)
    # Another driver's device lacks our keys: that must be no match, and no error that stops the pod.
    assert not any(selector.matches(device("nic.example.com")) for selector in found.values())
