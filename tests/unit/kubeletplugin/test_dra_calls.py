"""Prepare and Unprepare over the real socket, with real files."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest

from gpuvitals.inventory.next_step import NEXT_STEP
from gpuvitals.kubeletplugin.allocated_claim import AllocatedDevice, Toleration
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import Reason
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals.proto import dra_v1beta1_pb2 as dra_beta
from gpuvitals.proto.dra_v1beta1_pb2_grpc import DRAPluginStub as BetaStub
from support.crash.crash_points import Agent
from support.waiting import eventually
from support.worlds.plugin_world import FAST, NODE, World, channel, kubelet, uid_of, written


def test_prepare_answers_with_request_pool_device_and_a_cdi_id_of_its_own(node: World) -> None:
    claim = node.allocate(1, 0, 2)
    with node.running() as plugin, kubelet(plugin) as calls:
        answer = calls.prepare(claim)
    assert list(answer) == [uid_of(1)]
    assert answer[uid_of(1)].error == ""
    first, second = answer[uid_of(1)].devices
    assert (list(first.request_names), first.pool_name, first.device_name) == (["r0"], NODE, node.device(0))
    assert list(first.cdi_device_ids) == [f"k8s.gpu.vitals.internal/claim={uid_of(1)}-{node.device(0)}"]
    assert first.cdi_device_ids != second.cdi_device_ids
    assert not first.HasField("share_id")


def test_prepared_claim_is_in_checkpoint_and_cdi_before_the_answer(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        payload = json.loads(node.checkpoint_file().read_text())["payload"]
        assert [entry["uid"] for entry in payload["claims"]] == [uid_of(1)]
        assert node.cdi_files() == [f"k8s.gpu.vitals.internal-claim_{uid_of(1)}.json"]
        assert [device.uuid for device in plugin.prepared()] == [node.uuid(0)]


def test_hundred_replays_give_the_same_answer_and_write_nothing(node: World) -> None:
    claim = node.allocate(1, 0, 1)
    with node.running() as plugin, kubelet(plugin) as calls:
        first = calls.prepare(claim)
        before = {**written(node.directory / "cdi"), **written(node.checkpoint_file().parent)}
        for _ in range(100):
            assert calls.prepare(claim) == first
        assert {**written(node.directory / "cdi"), **written(node.checkpoint_file().parent)} == before


def test_replay_succeeds_for_an_unhealthy_device_and_without_the_api_server(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        first = calls.prepare(claim)
        node.judge(0, HealthState.UNHEALTHY, reason=Reason("Xid79"))
        node.claims.fail = "connection refused"
        assert calls.prepare(claim) == first


def test_a_claim_that_was_given_other_devices_is_prepared_with_those(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        node.allocate(1, 2)
        (device,) = calls.prepare(claim)[uid_of(1)].devices
        assert device.device_name == node.device(2)
        assert [held.uuid for held in plugin.prepared()] == [node.uuid(2)]


def test_a_replay_soon_after_a_look_at_the_claim_needs_no_other(node: World) -> None:
    claim = node.allocate(1, 0)
    rarely = replace(FAST, confirmed_seconds=60.0, claim_check_seconds=60.0)
    with node.running(limits=rarely) as plugin, kubelet(plugin) as calls:
        first = calls.prepare(claim)
        assert node.claims.reads == 1
        assert calls.prepare(claim) == first
        assert node.claims.reads == 1
        calls.unprepare(claim)
        calls.prepare(claim)
        assert node.claims.reads == 2, "what was unprepared is looked at anew"


def test_replay_survives_a_restart_of_the_plugin_before_sources_are_attached(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        first = calls.prepare(claim)
    plugin = node.plugin()
    plugin.start()
    try:
        with kubelet(plugin) as calls:
            assert calls.prepare(claim) == first
            assert calls.unprepare(claim) == {uid_of(1): ""}
    finally:
        plugin.stop(1.0)
    assert node.cdi_files() == []


def test_claim_that_was_allocated_again_gets_its_new_device(node: World) -> None:
    """A stale entry under the same UID must not hand out a device that belongs to another claim by now."""
    node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(dra.Claim(namespace="ml", name="claim-1", uid=uid_of(1)))
        again = node.allocate(1, 3)
        answer = calls.prepare(again)[uid_of(1)]
        assert [device.device_name for device in answer.devices] == [node.device(3)]
        assert [device.uuid for device in plugin.prepared()] == [node.uuid(3)]
        assert calls.prepare(node.allocate(2, 0))[uid_of(2)].error == ""


def test_unprepare_needs_neither_api_nor_snapshot_nor_driver(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        node.claims.fail = "gone"
        node.agent.snapshot = None
        (node.root / "dev/nvidia0").unlink()
        assert calls.unprepare(claim) == {uid_of(1): ""}
        assert node.cdi_files() == []
        assert plugin.prepared() == ()


def test_unprepare_of_an_unknown_or_malformed_claim_is_fine(node: World) -> None:
    bad = dra.Claim(namespace="ml", name="x", uid="../../etc/x")
    with node.running() as plugin, kubelet(plugin) as calls:
        unknown = dra.Claim(namespace="ml", name="x", uid=uid_of(9))
        assert calls.unprepare(unknown, bad) == {uid_of(9): "", "../../etc/x": ""}


def test_device_can_be_prepared_again_once_it_was_unprepared(node: World) -> None:
    first, second = node.allocate(1, 0), node.allocate(2, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(first)
        assert calls.prepare(second, timeout=0.6)[uid_of(2)].error.startswith("DeviceInUse: ")
        calls.unprepare(first)
        assert calls.prepare(second)[uid_of(2)].error == ""


def test_same_claim_can_be_prepared_again_after_unprepare(node: World) -> None:
    """A standing claim serves pods in turn: the tombstone stops only calls that are older than it."""
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        for _ in range(3):
            assert calls.prepare(claim)[uid_of(1)].error == ""
            assert calls.unprepare(claim)[uid_of(1)] == ""


def test_one_claims_error_is_its_own_and_every_uid_is_answered_once(node: World) -> None:
    good, lost = node.allocate(1, 0), dra.Claim(namespace="ml", name="gone", uid=uid_of(7))
    replaced = dra.Claim(namespace="ml", name="claim-2", uid=uid_of(8))
    node.allocate(2, 1)
    with node.running() as plugin, kubelet(plugin) as calls:
        answer = calls.prepare(lost, good, replaced, good)
    errors = {uid: entry.error.split(":")[0] for uid, entry in answer.items()}
    assert errors == {uid_of(1): "", uid_of(7): "ClaimNotFound", uid_of(8): "ClaimReplaced"}


def test_empty_request_gets_an_empty_answer(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare() == {}
        plugin.probe(2.0)


def test_results_of_other_drivers_are_ignored(node: World) -> None:
    foreign = AllocatedDevice(request="nic", driver="nic.example.com", pool="elsewhere", device="../x")
    node.allocate(1, 0)
    mixed = node.claims.claims["ml", "claim-1"]
    node.claims.put(replace(mixed, results=(foreign, *mixed.results)))
    node.claims.put(replace(mixed, name="claim-2", uid=uid_of(2), results=(foreign,)))
    with node.running() as plugin, kubelet(plugin) as calls:
        answer = calls.prepare(
            dra.Claim(namespace="ml", name="claim-1", uid=uid_of(1)),
            dra.Claim(namespace="ml", name="claim-2", uid=uid_of(2)),
        )
        assert [device.device_name for device in answer[uid_of(1)].devices] == [node.device(0)]
        assert (answer[uid_of(2)].error, list(answer[uid_of(2)].devices)) == ("", [])
        assert len(node.cdi_files()) == 1


@pytest.mark.parametrize(
    "bad",
    [
        dra.Claim(namespace="ml", name="c", uid="../../etc/x"),
        dra.Claim(namespace="ml", name="c", uid=""),
        dra.Claim(namespace="ml", name="c", uid="a" * 64),
        dra.Claim(namespace="ml", name="c", uid="a\0b"),
        dra.Claim(namespace="ml", name="c", uid="\N{SNOWMAN}"),
        dra.Claim(namespace="m/l", name="c", uid=uid_of(1)),
        dra.Claim(namespace="ml", name="../c", uid=uid_of(1)),
    ],
    ids=["traversal", "empty", "long", "nul", "unicode", "namespace", "name"],
)
def test_names_that_could_reach_a_path_are_refused_without_a_file(node: World, bad: dra.Claim) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        good = node.allocate(1, 0) if bad.uid != uid_of(1) else node.allocate(2, 0)
        answer = calls.prepare(bad, good)
        assert answer[bad.uid].error.startswith("InvalidArgument: ")
        assert answer[good.uid].error == ""
        assert len(node.cdi_files()) == 1


def test_unhealthy_device_is_refused_without_a_toleration_and_given_with_one(node: World) -> None:
    """Also Finding K8: the refusal has the next step for the pod's owner."""
    node.judge(0, HealthState.UNHEALTHY, reason=Reason("Xid79"), message="fell off the bus")
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        refused = calls.prepare(claim)[uid_of(1)].error
        said = f"device {node.device(0)} is Unhealthy (Xid79): fell off the bus; {NEXT_STEP}"
        assert refused == f"DeviceUnhealthy: {said}"
        eventually(lambda: "DeviceUnhealthy" in node.events.reasons())
        assert node.events.events[0].message == f"prepare of claim ml/claim-1 refused: {said}"
        allocated = node.claims.claims["ml", "claim-1"]
        tolerant = replace(
            allocated.results[0],
            tolerations=(Toleration(key="gpu.vitals.internal/unhealthy", operator="Exists"),),
        )
        node.claims.put(replace(allocated, results=(tolerant,)))
        assert calls.prepare(claim)[uid_of(1)].error == ""


def test_fenced_device_takes_no_new_claim_and_keeps_the_old(node: World) -> None:
    old, new = node.allocate(1, 0), node.allocate(2, 1)
    with node.running() as plugin, kubelet(plugin) as calls:
        first = calls.prepare(old)
        node.fenced = frozenset({node.uuid(0), node.uuid(1)})
        assert calls.prepare(old) == first
        assert calls.prepare(new)[uid_of(2)].error.startswith("DeviceFenced: ")


def test_admin_access_shares_the_device_and_is_marked(node: World) -> None:
    user = node.allocate(1, 0)
    monitor = node.allocate(2, 0)
    allocated = node.claims.claims["ml", "claim-2"]
    node.claims.put(replace(allocated, results=(replace(allocated.results[0], admin_access=True),)))
    node.judge(0, HealthState.HEALTHY)
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(user)[uid_of(1)].error == ""
        answer = calls.prepare(monitor)[uid_of(2)]
        assert answer.error == ""
        assert answer.devices[0].cdi_device_ids[0].endswith("-admin")
        spec = json.loads((node.directory / "cdi" / node.cdi_files()[1]).read_text())
        assert spec["devices"][0]["containerEdits"]["env"] == ["GPUVITALS_ADMIN_ACCESS=true"]


def test_v1beta1_answers_like_v1(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, channel(plugin.paths.dra) as opened:
        expected = calls.prepare(claim)[uid_of(1)].devices[0]
        beta = BetaStub(opened)
        wire = dra_beta.Claim(namespace=claim.namespace, name=claim.name, uid=claim.uid)
        got = beta.NodePrepareResources(dra_beta.NodePrepareResourcesRequest(claims=[wire]), timeout=5)
        device = got.claims[uid_of(1)].devices[0]
        assert (device.device_name, list(device.cdi_device_ids), list(device.request_names)) == (
            expected.device_name,
            list(expected.cdi_device_ids),
            list(expected.request_names),
        )
        done = beta.NodeUnprepareResources(dra_beta.NodeUnprepareResourcesRequest(claims=[wire]), timeout=5)
        assert done.claims[uid_of(1)].error == ""


def test_oversized_and_garbage_messages_are_rejected_and_the_server_lives(node: World) -> None:
    claim = node.allocate(1, 0)
    path = "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"
    with node.running() as plugin, channel(plugin.paths.dra) as opened, kubelet(plugin) as calls:
        raw = opened.unary_unary(path)
        for body, code in (
            (b"\x0a" + b"\xff" * 64, grpc.StatusCode.INTERNAL),
            (b"\x0a\xff\xff\xff\x02" + b"x" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                raw(body, timeout=5)
            assert caught.value.code() is code
        assert calls.prepare(claim)[uid_of(1)].error == ""


def test_claims_are_prepared_in_parallel_and_each_device_goes_once(node: World) -> None:
    """A claim whose read hangs delays no other; of several claims for one device, one wins."""
    held_up = node.allocate(1, 0)
    rivals = [node.allocate(number, 1) for number in range(2, 8)]
    gate = threading.Event()
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(8) as pool:
        node.claims.gate = gate
        slow = pool.submit(calls.prepare, held_up)
        eventually(lambda: node.claims.reads == 1)
        node.claims.gate = None
        answers = list(pool.map(lambda rival: calls.prepare(rival, timeout=2.0), rivals))
        errors = [next(iter(answer.values())).error for answer in answers]
        assert sorted(error.split(":")[0] for error in errors) == [""] + ["DeviceInUse"] * 5
        assert not slow.done()
        gate.set()
        assert slow.result()[uid_of(1)].error == ""


def test_concurrent_replays_of_one_claim_leave_one_entry(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: calls.prepare(claim), range(16)))
        assert all(answer == answers[0] for answer in answers)
        assert len(plugin.prepared()) == 1


def test_instance_that_recorded_the_device_in_between_keeps_it(
    node: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes never give out one device: it may be taken between plan and record."""
    node.allocate(1, 0)
    node.allocate(2, 0)
    first, second = Agent(node), Agent(node)
    write = first.cdi.write

    def interrupted(held: HeldClaim) -> None:
        second.prepare(2)
        write(held)

    monkeypatch.setattr(first.cdi, "write", interrupted)
    with pytest.raises(AssertionError, match="DeviceInUse"):
        first.prepare(1)

    first.check(2)
