"""A Prepare waits for causes that can clear, because an error costs the pod a minute or more."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest

from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim
from gpuvitals.kubeletplugin.claims.preparer import PARALLEL_PREPARES
from gpuvitals.model.snapshot import Snapshot
from support.waiting import eventually
from support.worlds.plugin_world import FAST, Claims, World, kubelet, uid_of


def test_api_server_that_comes_back_in_time_costs_no_error(node: World) -> None:
    node.claims.fail = "connection refused"
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads >= 2)
        node.claims.fail = ""
        assert answer.result(5)[uid_of(1)].error == ""


def test_first_snapshot_is_waited_for_and_ends_the_wait_at_once(node: World) -> None:
    snapshot = node.agent.snapshot
    assert isinstance(snapshot, Snapshot)
    node.agent.snapshot = None
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads >= 3)
        plugin.notify(snapshot)
        started = time.monotonic()
        assert answer.result(5)[uid_of(1)].error == ""
        assert time.monotonic() - started < 0.3


def test_prepare_waits_for_the_sources_and_unprepare_does_not(node: World) -> None:
    claim = node.allocate(1, 0)
    plugin = node.plugin()
    plugin.start()
    try:
        with kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(calls.prepare, claim)
            assert calls.unprepare(node.allocate(2, 1)) == {uid_of(2): ""}
            assert not answer.done()
            plugin.attach(node.ports())
            assert answer.result(5)[uid_of(1)].error == ""
    finally:
        plugin.stop(1.0)


def test_wait_ends_before_the_callers_deadline_with_the_cause(node: World) -> None:
    node.claims.fail = "connection refused"
    with node.running() as plugin, kubelet(plugin) as calls:
        error = calls.prepare(node.allocate(1, 0), timeout=0.6)[uid_of(1)].error
    assert error.startswith("ClaimUnreadable: claim ml/claim-1 can't be read: connection refused")
    assert "ClaimUnreadable" in node.events.reasons()


def test_wait_is_bounded_by_its_own_limit(node: World) -> None:
    node.claims.fail = "connection refused"
    limits = replace(FAST, transient_wait_seconds=0.3)
    with node.running(limits=limits) as plugin, kubelet(plugin) as calls:
        started = time.monotonic()
        assert calls.prepare(node.allocate(1, 0))[uid_of(1)].error.startswith("ClaimUnreadable: ")
        assert time.monotonic() - started < 2.0


def test_permanent_refusal_is_answered_at_once(node: World) -> None:
    claim = node.allocate(1, 0, allocated=False)
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(claim)[uid_of(1)].error.startswith("NotAllocated: ")
        assert node.claims.reads == 1


def test_unprepare_ends_a_waiting_prepare_and_the_last_intent_wins(node: World) -> None:
    """A hanging Prepare would block its pod's deletion until the deadline."""
    node.claims.fail = "connection refused"
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads >= 1)
        started = time.monotonic()
        assert calls.unprepare(claim) == {uid_of(1): ""}
        assert time.monotonic() - started < 1.0
        assert waiting.result(5)[uid_of(1)].error.startswith("Superseded: ")
        node.claims.fail = ""
        assert plugin.prepared() == ()
        assert calls.prepare(claim)[uid_of(1)].error == ""


def test_claims_beyond_those_at_work_are_refused_as_busy_before_their_deadline(node: World) -> None:
    gate = node.claims.gate = threading.Event()
    working = [node.allocate(number, number % 4) for number in range(PARALLEL_PREPARES)]
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(PARALLEL_PREPARES) as pool:
        answers = [pool.submit(calls.prepare, claim) for claim in working]
        eventually(lambda: node.claims.reads == PARALLEL_PREPARES)
        late = calls.prepare(node.allocate(9, 0), timeout=0.6)[uid_of(9)].error
        assert late.startswith(f"Busy: {PARALLEL_PREPARES} other claims are being prepared")
        gate.set()
        assert all(
            answer.result(5)[claim.uid].error == "" for answer, claim in zip(answers, working, strict=True)
        )


def test_claims_that_wait_for_a_cause_to_clear_leave_room_for_others(node: World) -> None:
    waiting = [node.allocate(number, number % 4) for number in range(2 * PARALLEL_PREPARES)]
    node.claims.fail = "connection refused"
    with (
        node.running() as plugin,
        kubelet(plugin) as calls,
        ThreadPoolExecutor(2 * PARALLEL_PREPARES) as pool,
    ):
        answers = [pool.submit(calls.prepare, claim, timeout=3.0) for claim in waiting]
        eventually(lambda: node.claims.reads >= 2 * PARALLEL_PREPARES)
        node.claims.fail = ""
        errors = [answer.result(5)[claim.uid].error for answer, claim in zip(answers, waiting, strict=True)]

    assert errors.count("") == 4
    assert all(error == "" or error.startswith("DeviceInUse: ") for error in errors)


def test_prepare_whose_caller_has_gone_records_nothing(node: World) -> None:
    """The context ended while the claim was read; a late success would hold the device without a pod."""
    gate = node.claims.gate = threading.Event()
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        with pytest.raises(grpc.RpcError) as caught:
            calls.prepare(claim, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.set()
        node.claims.gate = None
        rival = node.allocate(2, 0)
        eventually(lambda: calls.prepare(rival)[uid_of(2)].error == "")
        assert [device.claim.uid for device in plugin.prepared()] == [uid_of(2)]
        assert len(node.cdi_files()) == 1


def test_late_prepare_of_another_instance_cannot_come_back_after_unprepare(node: World) -> None:
    """Check 45: the tombstone is newer than the call, whichever process runs it."""
    gate = node.claims.gate = threading.Event()
    claim = node.allocate(1, 0)
    # Longer than any call: one instance must not take a file for an orphan that the other is about to record.
    limits = replace(FAST, orphan_grace_seconds=60.0)
    with (
        node.running("pod-a", limits) as old,
        node.running("pod-b", limits) as new,
        kubelet(old) as to_old,
        kubelet(new) as to_new,
        ThreadPoolExecutor(1) as pool,
    ):
        late = pool.submit(to_old.prepare, claim)
        eventually(lambda: node.claims.reads == 1)
        node.claims.gate = None
        assert to_new.prepare(claim)[uid_of(1)].error == ""
        assert to_new.unprepare(claim) == {uid_of(1): ""}
        gate.set()
        assert late.result(5)[uid_of(1)].error.startswith("Superseded: ")
        eventually(lambda: old.prepared() == new.prepared() == ())
        assert node.cdi_files() == []


def test_claim_that_is_gone_from_the_api_is_released_after_checks_in_a_row(node: World) -> None:
    """Check 44: force-deleted while the plugin was down, so the kubelet never asks."""
    gone, replaced, kept = node.allocate(1, 0), node.allocate(2, 1), node.allocate(3, 2)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(gone, replaced, kept)
        del node.claims.claims["ml", "claim-1"]
        node.claims.put(replace(node.claims.claims["ml", "claim-2"], uid=uid_of(9)))
        eventually(lambda: [device.claim.uid for device in plugin.prepared()] == [uid_of(3)])
        eventually(lambda: node.events.reasons().count("StaleClaimReleased") == 2)
        eventually(lambda: len(node.cdi_files()) == 1)


def test_api_server_that_is_away_releases_nothing(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0))
        node.claims.fail = "connection refused"
        reads = node.claims.reads
        eventually(lambda: node.claims.reads > reads + 4)
        assert len(plugin.prepared()) == 1


def test_claims_beyond_the_bound_of_waiting_ones_are_refused_at_once_with_the_cause(node: World) -> None:
    """Finding R5."""
    limits = replace(FAST, max_parked=2)
    node.claims.fail = "connection refused"
    claims = [node.allocate(number, number) for number in range(4)]
    with node.running(limits=limits) as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(2) as pool:
        parked = [pool.submit(calls.prepare, claim) for claim in claims[:2]]
        eventually(lambda: node.claims.reads >= 4)
        started = time.monotonic()
        refused = calls.prepare(*claims[2:])
        assert time.monotonic() - started < 2.0
        assert not any(each.done() for each in parked)
        for claim in claims[2:]:
            error = refused[claim.uid].error
            assert error.startswith(
                f"ClaimUnreadable: claim ml/{claim.name} can't be read: connection refused"
            )
            assert error.endswith("; not waited for, since 2 other claims wait for such a cause already")
        node.claims.fail = ""
        assert [each.result(5)[claim.uid].error for each, claim in zip(parked, claims, strict=False)] == [
            "",
            "",
        ]


def test_calls_at_their_bounds_leave_threads_for_the_probe_and_other_calls(
    node: World,
) -> None:
    """Finding R5: hanging reads occupy every Prepare; calls over the bound are refused, the others go on."""
    limits = replace(
        FAST, max_streams=1, max_prepares=6, max_unprepares=2, spare_calls=2, transient_wait_seconds=0.5
    )
    gate = threading.Event()
    held, claims = node.allocate(90, 0), [node.allocate(number, 1) for number in range(8)]
    with node.running(limits=limits) as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(6) as pool:
        assert calls.prepare(held)[held.uid].error == ""
        node.claims.gate = gate
        working = [pool.submit(calls.prepare, claim) for claim in claims[:6]]
        eventually(lambda: node.claims.reads == 1 + PARALLEL_PREPARES)
        eventually(lambda: _is_busy(calls.prepare(claims[6], timeout=2.0)[claims[6].uid].error))
        plugin.probe(1.0)
        started = time.monotonic()
        assert calls.unprepare(held) == {held.uid: ""}
        assert calls.unprepare(claims[0]) == {claims[0].uid: ""}
        assert time.monotonic() - started < 1.0
        gate.set()
        errors = [each.result(10)[claim.uid].error for each, claim in zip(working, claims, strict=False)]
    assert errors[0].startswith("Superseded: ")
    assert errors[1:].count("") == 1


def _is_busy(error: str) -> bool:
    return error == "Busy: 6 other prepare calls are in progress; the kubelet retries"


def test_unprepare_does_not_wait_for_a_claim_read_and_nothing_is_recorded_after(
    node: World,
) -> None:
    """Finding R5: the API server is silent, and the pod is deleted meanwhile."""
    gate = node.claims.gate = threading.Event()
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads == 1)
        started = time.monotonic()
        assert calls.unprepare(claim) == {claim.uid: ""}
        assert time.monotonic() - started < 1.0
        gate.set()
        assert reading.result(5)[claim.uid].error.startswith("Superseded: ")
        assert plugin.prepared() == ()
        assert node.cdi_files() == []


def test_a_replay_that_is_overtaken_by_unprepare_leaves_no_file(node: World) -> None:
    """Finding R5: the replay asks whether the claim still has its devices, and that takes long."""
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        assert calls.prepare(claim)[claim.uid].error == ""
        reads = node.claims.reads
        gate = node.claims.gate = threading.Event()
        replay = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads > reads)
        assert calls.unprepare(claim) == {claim.uid: ""}
        gate.set()
        assert replay.result(5)[claim.uid].error.startswith("Superseded: ")
        assert plugin.prepared() == ()
        assert node.cdi_files() == []


def test_a_device_in_use_is_waited_for_and_given_as_soon_as_it_is_released(node: World) -> None:
    """Finding K11: a pod is deleted by force, and its GPU's next pod starts before it is unprepared."""
    first, second = node.allocate(1, 0), node.allocate(2, 0)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        assert calls.prepare(first)[first.uid].error == ""
        reads = node.claims.reads
        waiting = pool.submit(calls.prepare, second)
        eventually(lambda: node.claims.reads >= reads + 4)
        assert not waiting.done()
        started = time.monotonic()
        assert calls.unprepare(first) == {first.uid: ""}
        assert waiting.result(5)[second.uid].error == ""
        assert time.monotonic() - started < 0.5
        assert [device.claim.uid for device in plugin.prepared()] == [second.uid]


def test_a_device_that_stays_in_use_is_refused_when_the_time_for_waiting_is_over(node: World) -> None:
    """Finding K11: within the bounds of every wait."""
    first, second = node.allocate(1, 0), node.allocate(2, 0)
    limits = replace(FAST, transient_wait_seconds=0.3)
    with node.running(limits=limits) as plugin, kubelet(plugin) as calls:
        assert calls.prepare(first)[first.uid].error == ""
        started = time.monotonic()
        error = calls.prepare(second)[second.uid].error
        assert error.startswith("DeviceInUse: ")
        assert 0.3 <= time.monotonic() - started < 3.0
        assert calls.prepare(first)[first.uid].error == ""


@pytest.mark.parametrize("device", ["the same slot", "another slot"])
def test_a_claim_that_moved_to_another_node_is_released_and_its_gpu_given_on(
    node: World, device: str
) -> None:
    """Finding P5: the node was lost, its claim was allocated elsewhere, and no kubelet unprepares it here."""
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(claim)[claim.uid].error == ""
        stored = node.claims.claims["ml", claim.name]
        name = node.device(0) if device == "the same slot" else "gpu-0000-ff-00-0"
        moved = replace(stored.results[0], pool="node-b", device=name)
        node.claims.put(replace(stored, results=(moved,)))
        eventually(lambda: plugin.prepared() == ())
        eventually(lambda: node.events.reasons() == ["StaleClaimReleased"])
        assert calls.prepare(node.allocate(2, 0))[uid_of(2)].error == ""


class SlowClaims(Claims):
    """An API server whose answers take as long as they like."""

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self._source = source

    def allocated(self, namespace: str, name: str) -> AllocatedClaim:
        threading.Event().wait(self._source.uniform(0.0, 0.01))
        return super().allocated(namespace, name)


@pytest.mark.parametrize("seed", range(3))
def test_an_unprepare_at_any_instant_of_a_prepare_leaves_nothing(node: World, seed: int) -> None:
    """Finding R5: it does not wait for the Prepare, and nothing is recorded after it."""
    source = random.Random(seed)
    node.claims = SlowClaims(source)
    with node.running() as plugin, kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        for number in range(60):
            claim = node.allocate(number, number % 4)
            preparing = pool.submit(calls.prepare, claim)
            eventually(lambda call=preparing, uid=claim.uid: call.done() or uid in plugin._queue.active())
            threading.Event().wait(source.uniform(0.0, 0.02))
            assert calls.unprepare(claim) == {claim.uid: ""}
            error = preparing.result(10)[claim.uid].error
            assert error == "" or error.startswith("Superseded: ")
            assert plugin.prepared() == ()
            assert node.cdi_files() == []
