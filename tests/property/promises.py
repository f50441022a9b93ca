"""Properties of the health fold for every history of a GPU and its siblings; test_health_fold.py checks them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.attribution import affects
from gpuvitals.health.clearing import after_restart
from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.fault_classes import ASKS_FOR_RESET, FLAPPING, Clearing, FaultClass
from gpuvitals.health.faults import NVML_HUNG, isolates, run_ends_at
from gpuvitals.health.isolation import isolated
from gpuvitals.health.reasons import is_reason
from gpuvitals.health.state import MAX_EPISODES, MAX_PAST, MAX_XIDS, GpuState, initial_state
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.inventory.device import MAX_STRING, Device, device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthClass, HealthState
from gpuvitals.model.ids import GpuUuid, NodeName, PciBusId, Reason
from gpuvitals.model.signal import (
    ClearReport,
    GpuSignal,
    IdentityReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Source,
)
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from gpuvitals.node.queue import SignalQueue
from support.hypothesis.gpu_histories import STEPS, accusations, end_of, histories, moments_of_many
from support.signals import (
    GPU,
    POLICY,
    START,
    UUID,
    checkup,
    fold,
    fresh,
    good,
    identity,
    judge,
    moment,
    xid,
)

_RANKS = {HealthState.HEALTHY: 0, HealthState.DEGRADED: 1, HealthState.UNHEALTHY: 2}
APPLICATION_XIDS = [code for code in CATALOG if xid_rule(xid(code, 0)).fault_class is FaultClass.C] + [43, 45]


@dataclass(frozen=True)
class Promise:
    """A property, and the strategies of its arguments."""

    holds: Callable[..., None]
    arguments: tuple[st.SearchStrategy[object], ...]

    def __str__(self) -> str:
        return self.holds.__name__

    def keep(self, examples: int) -> None:
        """Checks the property on `examples` examples. Raises the AssertionError of the smallest counterexample."""
        settings(max_examples=examples)(given(*self.arguments)(self.holds))()


PROMISES: list[Promise] = []


def promise(*arguments: st.SearchStrategy[object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the function to PROMISES."""

    def listed(holds: Callable[..., None]) -> Callable[..., None]:
        PROMISES.append(Promise(holds=holds, arguments=arguments))
        return holds

    return listed


def _queued(together: list[GpuSignal], state: GpuState) -> GpuState:
    """The state after signals that were coalesced on the agent's queue."""
    queue = SignalQueue()
    for signal in together:
        queue.put(signal)
    return fold(*(signal for signal in queue.take() if isinstance(signal, GpuSignal)), state=state)


def _is_terminal(state: GpuState) -> bool:
    """Whether the GPU has a fault that no reset repairs."""
    return any(fault.rule.clearing is Clearing.OPERATOR for fault in state.faults)


def _flaps(state: GpuState) -> bool:
    return state.fault(FLAPPING.reason) is not None


@promise(histories())
def each_signal_twice_is_each_signal_once(history: list[GpuSignal]) -> None:
    twice = [signal for signal in history for _ in range(2)]

    assert fold(*twice) == fold(*history)


@promise(histories(), st.data())
def a_signal_that_is_heard_again_late_changes_no_verdict(
    history: list[GpuSignal], data: st.DataObject
) -> None:
    state, at = fold(*history), end_of(history)
    if history:
        again = data.draw(st.sampled_from(history))
        assert judge(evaluate(advance(state, at, POLICY), again, POLICY), at) == judge(state, at)


@promise(histories(), st.data())
def one_more_accusation_never_raises_the_score_nor_lifts_a_state(
    history: list[GpuSignal], data: st.DataObject
) -> None:
    state, at = fold(*history), end_of(history)
    before = judge(state, at)
    after = judge(evaluate(advance(state, at, POLICY), data.draw(accusations(at)), POLICY), at)

    assert after.score <= before.score
    if before.state is HealthState.UNKNOWN:
        assert after.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)
    else:
        assert _RANKS[after.state] >= _RANKS[before.state]
        assert after.definitive >= before.definitive


@promise(st.data())
def without_a_reading_a_gpu_is_unknown_or_failed_and_never_anything_better(data: st.DataObject) -> None:
    steps = data.draw(st.lists(STEPS, max_size=10))
    history = [data.draw(accusations(START + sum(steps[:end]))) for end in range(len(steps))]
    verdict = judge(fold(*history), START + sum(steps))

    assert verdict.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)
    assert verdict.score == 0


@promise(histories(), st.floats(60.0, 1e7))
def a_gpu_that_nobody_sees_scores_zero_and_is_isolated_by_evidence_only(
    history: list[GpuSignal], silence: float
) -> None:
    """Missing readings alone never isolate a GPU. A hang can, and so can an event that was reported twice."""
    state, at = fold(*history), end_of(history)
    verdict = judge(state, at + silence)

    assert verdict.score == 0
    assert verdict.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)
    pends = any(
        fault.rule.fault_class is FaultClass.B and run_ends_at(fault, POLICY) is not None
        for fault in state.faults
    )
    if judge(state, at).state is not HealthState.UNHEALTHY and state.fault(NVML_HUNG) is None and not pends:
        assert verdict.state is HealthState.UNKNOWN


@promise(histories())
def a_verdict_is_consistent_whatever_happened(history: list[GpuSignal]) -> None:
    verdict = judge(fold(*history), end_of(history))

    out = isolated([verdict] * 2, POLICY)
    assert (verdict.uuid in out) <= (verdict.state is HealthState.UNHEALTHY)
    caps = {
        HealthState.HEALTHY: 100,
        HealthState.DEGRADED: 90,
        HealthState.UNHEALTHY: 0,
        HealthState.UNKNOWN: 0,
    }
    assert 0 <= verdict.score <= caps[verdict.state]
    assert (verdict.health_class is HealthClass.UNKNOWN) is (verdict.state is HealthState.UNKNOWN)
    assert (verdict.health_class is HealthClass.FAILED) is (verdict.state is HealthState.UNHEALTHY)
    assert (verdict.reason == "None") is (verdict.state is HealthState.HEALTHY)
    assert is_reason(verdict.reason)
    assert 0 <= verdict.coverage <= 100
    assert 0 <= verdict.nvlink_bandwidth_percent <= 100
    assert (verdict.last_xid == 0) is (verdict.xid_errors == 0)


@promise(histories())
def a_restart_at_any_point_gives_the_same_verdict(history: list[GpuSignal]) -> None:
    plain, restarted = fresh(), fresh()
    for signal in history:
        plain = fold(signal, state=plain)
        stored = msgspec.json.decode(msgspec.json.encode(restarted), type=GpuState)
        taken_up = after_restart(stored, same_boot=True, same_driver_load=True, age_seconds=0)
        restarted = fold(signal, state=taken_up)

    assert judge(restarted, end_of(history)) == judge(plain, end_of(history))


@promise(histories(), st.booleans())
def no_boot_and_no_driver_load_heals_before_a_reading(history: list[GpuSignal], same_boot: bool) -> None:
    state, at = fold(*history), end_of(history)
    again = after_restart(state, same_boot=same_boot, same_driver_load=False, age_seconds=60)
    after = judge(again, at if same_boot else 1.0)

    assert after.state in (HealthState.UNHEALTHY, HealthState.UNKNOWN)
    if any(isolates(state, fault, at, POLICY) and fault.good_since is None for fault in state.faults):
        assert after.state is HealthState.UNHEALTHY


@promise(histories())
def recovery_is_reachable_by_a_reset_clean_readings_and_time(history: list[GpuSignal]) -> None:
    """A flapping GPU needs flap_quiet_seconds under observation, here four minutes.

    The first identity line of a driver load can come long after a fault, so only the second one shows the reset.
    """
    policy = replace(POLICY, flap_quiet_seconds=240)
    state, at = fold(*history, policy=policy), end_of(history) + 10
    seen = [at + 1 + 50 * step for step in range(9)]
    watched = (signal for each in seen for signal in (good(each), checkup(each)))
    mended = fold(identity(at - 1), identity(at), *watched, state=state, policy=policy)
    at += 500 + POLICY.probation_seconds * 2**POLICY.probation_doublings + POLICY.row_remap_memory_seconds
    # Readings a window apart, since the thermal margin is smoothed.
    verdict = judge(fold(*(good(at + 300 * step) for step in range(3)), state=mended), at + 601, policy)

    if _is_terminal(mended):
        assert verdict.state is HealthState.UNHEALTHY
    else:
        assert (verdict.state, verdict.score, verdict.xid_errors) == (HealthState.HEALTHY, 100, 0)


def _shows_no_reset(signal: GpuSignal) -> bool:
    if isinstance(signal, Reading):
        return signal.status is not ReadStatus.RESET_REQUIRED and signal.recovery_action not in ASKS_FOR_RESET
    return not isinstance(signal, IdentityReport | ClearReport | RecoveryActionReport)


@promise(histories(), st.sampled_from([48, 79, 95, 119, 140]))
def nothing_but_a_sign_of_a_reset_or_an_operator_ends_a_fault_of_class_a(
    history: list[GpuSignal], code: int
) -> None:
    """Finding R6: neither a falling value nor time ends it."""
    quiet = [signal for signal in history if _shows_no_reset(signal)]
    state = fold(good(START), xid(code, START), *quiet)

    assert state.fault(Reason(f"Xid{code}")) is not None
    assert judge(state, end_of(quiet)).state is HealthState.UNHEALTHY


@promise(histories())
def recovery_is_reachable_by_a_boot_and_by_an_operator(history: list[GpuSignal]) -> None:
    state, at = fold(*history), end_of(history)
    booted = after_restart(state, same_boot=False, same_driver_load=False, age_seconds=60)
    booted = fold(*(good(10.0 + 30 * step) for step in range(4)), state=booted)
    order = ClearReport(source=Source.OPERATOR, seen=moment(at + 1), uuid=UUID, operator_reason="ticket")
    cleared = fold(order, *(good(at + 2 + 30 * step) for step in range(4)), state=state)

    assert (
        _is_terminal(booted)
        or _flaps(booted)
        or judge(booted, 101.0).state in (HealthState.HEALTHY, HealthState.DEGRADED)
    )
    assert judge(cleared, at + 93).state in (HealthState.HEALTHY, HealthState.DEGRADED)


@promise(histories(), st.floats(0.0, 200.0), st.data())
def the_order_of_simultaneous_signals_does_not_matter(
    history: list[GpuSignal], later: float, data: st.DataObject
) -> None:
    state, at = fold(*history), end_of(history) + later
    together = data.draw(moments_of_many(at))
    turned = data.draw(st.permutations(together))

    assert judge(_queued(turned, state), at) == judge(_queued(together, state), at)


@promise(st.lists(st.tuples(STEPS, st.sampled_from(APPLICATION_XIDS), st.sampled_from("abc")), max_size=40))
def no_application_xid_isolates_however_often(reports: list[tuple[float, int, str]]) -> None:
    state, at = fold(good(START)), START
    for step, code, claim in reports:
        at += step
        state = fold(xid(code, at, claim=claim), good(at + 0.1), state=state)
        verdict = judge(state, at + 0.1)

        assert verdict.state in (HealthState.HEALTHY, HealthState.DEGRADED)
        assert verdict.score >= 69


@promise(histories())
def what_is_remembered_is_bounded(history: list[GpuSignal]) -> None:
    state = fold(*history)

    assert len(state.xids) <= MAX_XIDS
    assert len(state.past) <= MAX_PAST
    assert len(state.repairs) <= MAX_EPISODES
    assert all(len(fault.episodes) <= MAX_EPISODES for fault in state.faults)
    assert len({fault.rule.reason for fault in state.faults}) == len(state.faults)


SIBLINGS = 3
NODE = (
    GPU,
    *(
        replace(
            GPU, uuid=GpuUuid(f"GPU-sibling-{index}"), bus_id=PciBusId(f"0000:{0x10 + 0x20 * index:02x}:00.0")
        )
        for index in range(SIBLINGS)
    ),
)


def _shown(history: list[GpuSignal], at: float, mode: ServiceMode) -> dict[str, Device]:
    """The published devices of a node with four GPUs after the signals; every sibling has good readings."""
    states: dict[GpuUuid, tuple[Gpu, GpuState]] = {
        gpu.uuid: (gpu, initial_state(gpu, moment(START))) for gpu in NODE
    }
    for signal in (*history, *(replace(good(at), uuid=gpu.uuid) for gpu in NODE[1:])):
        for uuid, (gpu, state) in states.items():
            if affects(signal, gpu):
                states[uuid] = gpu, fold(signal, state=state)
    verdicts = {uuid: judge(state, at) for uuid, (_, state) in states.items()}
    verdicts = {uuid: replace(verdict, uuid=uuid) for uuid, verdict in verdicts.items()}
    out = isolated(list(verdicts.values()), POLICY)
    shown = tuple(
        GpuHealth(gpu=gpu, verdict=verdicts[uuid], isolated=uuid in out, state_since=moment(START).time)
        for uuid, (gpu, _) in sorted(states.items(), key=lambda entry: entry[1][0].bus_id)
    )
    snapshot = Snapshot(revision=1, taken=moment(at), node=NodeName("n"), gpus=shown, facts=NodeFacts())
    return {device.name: device for part in pool(snapshot, Naming(), mode).slices for device in part.devices}


@promise(histories(), st.sampled_from(ServiceMode))
def nothing_that_is_said_of_one_gpu_changes_a_byte_of_a_siblings_device(
    history: list[GpuSignal], mode: ServiceMode
) -> None:
    at, mine = end_of(history), device_name(GPU)
    after, before = _shown(history, at, mode), _shown([], at, mode)

    assert after.keys() - {mine} == before.keys() - {mine}
    for name in after.keys() - {mine}:
        assert msgspec.json.encode(after[name]) == msgspec.json.encode(before[name])
    for device in after.values():
        texts = [value for _, value in device.attributes if isinstance(value, str)]
        assert all(0 < len(text) <= MAX_STRING for text in texts)
        assert len({taint.key for taint in device.taints}) == len(device.taints) <= 1
