"""Bad inputs of Prepare, over the real socket: each refused alone, with its reason, and nothing of it left behind."""

import json
from dataclasses import replace
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from gpuvitals.kubeletplugin.allocated_claim import AllocatedDevice, ConfigSource, OpaqueConfig
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.proto import dra_v1_pb2 as dra
from support.waiting import eventually
from support.worlds.plugin_world import DRIVER, NODE, World, channel, kubelet, uid_of

GOOD, BAD = 1, 2


def config(parameters: bytes, driver: str = DRIVER) -> OpaqueConfig:
    return OpaqueConfig(source=ConfigSource.CLAIM, driver=driver, parameters=parameters)


def result(**changed: Any) -> AllocatedDevice:
    base = AllocatedDevice(request="r", driver=DRIVER, pool=NODE, device="gpu-none")
    return replace(base, **changed)


def refused(node: World, bad: dra.Claim, code: str) -> str:
    """The text of the refusal. Its code is in the answer, the event and the metric; the neighbour is prepared."""
    good = node.allocate(GOOD, 0)
    metrics = NodeMetrics("test")
    with node.running(metrics=metrics) as plugin, kubelet(plugin) as calls:
        answers = calls.prepare(bad, good)
        assert answers[uid_of(GOOD)].error == ""
        error = answers[bad.uid].error
        assert error.startswith(f"{code}: "), error
        assert len(node.cdi_files()) == 1
        eventually(lambda: node.events.reasons() == [code])
        assert counted(metrics.registry, code) == 1
        assert calls.unprepare(bad)[bad.uid] == ""
    return error


def counted(registry: CollectorRegistry, code: str) -> float | None:
    labels = {"op": "prepare", "code": code}
    return registry.get_sample_value("gpuvitals_prepare_seconds_count", labels)


def allocated(node: World, *results: AllocatedDevice, configs: tuple[OpaqueConfig, ...] = ()) -> dra.Claim:
    return node.allocate(BAD, 1, results=results, configs=configs)


def test_a_uid_that_is_a_path_is_an_invalid_argument_and_no_file(node: World) -> None:
    refused(node, dra.Claim(namespace="ml", name="c", uid="../../etc/x"), "InvalidArgument")
    assert not (node.directory / "etc").exists()


@pytest.mark.parametrize(
    "uid", ["", "a" * 64, "a\0b", "\N{SNOWMAN}"], ids=["empty", "long", "nul", "unicode"]
)
def test_a_uid_that_is_none_is_an_invalid_argument(node: World, uid: str) -> None:
    refused(node, dra.Claim(namespace="ml", name="c", uid=uid), "InvalidArgument")


@pytest.mark.parametrize(("namespace", "name"), [("m/l", "c"), ("ml", "../c"), ("", "c"), ("ml", "")])
def test_a_namespace_or_name_with_a_slash_is_an_invalid_argument(
    node: World, namespace: str, name: str
) -> None:
    refused(node, dra.Claim(namespace=namespace, name=name, uid=uid_of(BAD)), "InvalidArgument")


@pytest.mark.parametrize("request_name", ["Not_A_Label", "a/b/c", "", "a\nb"])
def test_a_request_name_that_is_no_label_refuses_that_claim(node: World, request_name: str) -> None:
    refused(node, allocated(node, result(request=request_name, device=node.device(1))), "InvalidArgument")


@pytest.mark.parametrize("name", ["gpu-none", "../../dev/sda", "gpu-\x1b[31m"])
def test_a_device_that_is_not_here_is_refused(node: World, name: str) -> None:
    text = refused(node, allocated(node, result(device=name)), "UnknownDevice")
    assert text.isprintable()


def test_a_pool_of_another_node_is_refused(node: World) -> None:
    refused(node, allocated(node, result(pool="node-b", device=node.device(1))), "WrongPool")


def test_a_result_of_another_driver_is_ignored(node: World) -> None:
    foreign = result(driver="nic.example.com", device="eth0", pool="elsewhere", request="n")
    claim = allocated(node, foreign, result(device=node.device(1)))
    with node.running() as plugin, kubelet(plugin) as calls:
        answer = calls.prepare(claim)[uid_of(BAD)]

    assert answer.error == ""
    assert [device.device_name for device in answer.devices] == [node.device(1)]


def test_two_results_for_one_exclusive_device_are_refused(node: World) -> None:
    twice = (result(device=node.device(1)), result(request="s", device=node.device(1)))
    refused(node, allocated(node, *twice), "DuplicateDevice")


def test_more_than_32_results_are_refused(node: World) -> None:
    refused(node, allocated(node, *[result(device=node.device(1))] * 33), "TooManyDevices")


def test_admin_access_gets_a_held_device_and_leaves_it_to_its_holder(node: World) -> None:
    holder = node.allocate(GOOD, 1)
    admin = allocated(node, result(device=node.device(1), admin_access=True))
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(admin)[uid_of(BAD)].error == ""
        assert calls.prepare(holder)[uid_of(GOOD)].error == ""
        spec = json.loads(next((node.directory / "cdi").glob(f"*{uid_of(BAD)}.json")).read_text())

    assert "GPUVITALS_ADMIN_ACCESS=true" in spec["devices"][0]["containerEdits"]["env"]


HEAD = b'{"apiVersion": "vitals.internal/v1alpha1", "kind": "GpuConfig"'


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        (HEAD + b', "env": {"NCCL_DEBUG": "' + b"x" * 10240 + b'"}}', "parameters"),
        (b"[" * 1000 + b"]" * 1000, "parameters"),
        (HEAD + b', "kind": "GpuConfig"}', "kind"),
        (HEAD + b', "env": NaN}', "parameters"),
        (HEAD + b', "device": "gpu-0"}', "device"),
        (b'{"apiVersion": "vitals.internal/v1alpha1", "kind": "Other"}', "kind"),
        (b'{"apiVersion": "vitals.internal/v9", "kind": "GpuConfig"}', "apiVersion"),
    ],
    ids=["10 KiB + 1", "depth 1000", "duplicate key", "NaN", "unknown field", "kind", "version"],
)
def test_a_config_at_fault_is_refused_with_its_field(node: World, parameters: bytes, field: str) -> None:
    claim = allocated(node, result(device=node.device(1)), configs=(config(parameters),))
    assert f"config 0: {field}" in refused(node, claim, "InvalidConfig")


def test_a_config_of_another_driver_is_ignored_however_broken(node: World) -> None:
    claim = allocated(node, result(device=node.device(1)), configs=(config(b"\xff{", "nic.example.com"),))
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(claim)[uid_of(BAD)].error == ""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x0a" + b"\xff" * 64, grpc.StatusCode.INTERNAL),
        (b"\x0a\xff\xff\xff\x02" + b"x" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["garbage", "over 4 MiB"],
)
def test_a_message_that_is_none_is_rejected_and_the_server_lives(
    node: World, body: bytes, code: grpc.StatusCode
) -> None:
    path = "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"
    claim = node.allocate(GOOD, 0)
    with node.running() as plugin, channel(plugin.paths.dra) as opened, kubelet(plugin) as calls:
        with pytest.raises(grpc.RpcError) as caught:
            opened.unary_unary(path)(body, timeout=5)
        assert caught.value.code() is code
        assert calls.prepare(claim)[uid_of(GOOD)].error == ""
