"""What must hold for every history of one GPU, and for its siblings."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.attribution import concerns
from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.fault_classes import FLAPPING, Clearing
from gpuvitals.health.faults import HUNG, isolating
from gpuvitals.health.healing import after_restart
from gpuvitals.health.isolation import isolated
from gpuvitals.health.reasons import is_reason
from gpuvitals.health.state import GpuState, initial_state
from gpuvitals.inventory.device import MAX_STRING, Device, device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthClass, HealthState
from gpuvitals.model.ids import GpuUuid, NodeName, PciBusId
from gpuvitals.model.signal import (
    ClearReport,
    ConfigSpace,
    FabricState,
    GpuSignal,
    OffBusReport,
    PresenceReport,
    ReadStatus,
    Source,
)
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from support.signals import (
    BUS,
    GPU,
    POLICY,
    START,
    UUID,
    asks,
    broken,
    fold,
    fresh,
    good,
    identity,
    judge,
    links,
    moment,
    xid,
)

_CODES = st.sampled_from([8, 13, 31, 43, 45, 48, 63, 74, 79, 92, 94, 95, 109, 119, 144, 154, 174, 999])
_STEPS = st.sampled_from([0.0, 0.5, 4.0, 20.0, 61.0, 200.0, 400.0, 4000.0, 90_000.0])
_CLAIMS = st.sampled_from([None, "a", "b"])
_RANKS = {HealthState.HEALTHY: 0, HealthState.DEGRADED: 1, HealthState.UNHEALTHY: 2}


def _presence(at: float, present: bool, config: ConfigSpace) -> PresenceReport:
    return PresenceReport(
        source=Source.SYSFS, seen=moment(at), bus_id=BUS, uuid=UUID, present=present, config_space=config
    )


@st.composite
def accusations(draw: st.DrawFn, at: float) -> GpuSignal:
    """A signal that reports something bad, or nothing, and is no proof of anything good."""
    kind = draw(st.integers(0, 6))
    match kind:
        case 0 | 1 | 2:
            source = Source.KMSG if kind else Source.NVML_EVENT
            unit = draw(st.sampled_from([None, None, 1]))
            return replace(xid(draw(_CODES), at, source=source, claim=draw(_CLAIMS)), gpu_instance=unit)
        case 3:
            return asks(draw(st.integers(0, 9)), at)
        case 4:
            return OffBusReport(source=Source.KMSG, seen=moment(at), bus_id=BUS)
        case 5:
            return broken(
                at, draw(st.sampled_from([status for status in ReadStatus if status is not ReadStatus.OK]))
            )
        case _:
            return _presence(at, draw(st.booleans()), draw(st.sampled_from(ConfigSpace)))


@st.composite
def readings(draw: st.DrawFn, at: float) -> GpuSignal:
    """A poll that succeeded, with anything in it, read or not."""
    values = {
        "recovery_action": st.sampled_from([0, 0, 0, None, 1, 2, 3, 4, 5, 6, 7, 99]),
        "ecc_uncorrected_volatile": st.sampled_from([0, 0, 0, None, 1, 5]),
        "remap_pending": st.sampled_from([False, False, None, True]),
        "remap_failed": st.sampled_from([False] * 9 + [True]),
        "links": st.sampled_from([links(18), links(18), links(17), links(8), links(0), None]),
        "fabric": st.sampled_from([FabricState.COMPLETED, FabricState.COMPLETED, *FabricState, None]),
        "hardware_slowdown": st.sampled_from([False, False, None, True]),
        "thermal_margin_celsius": st.sampled_from([30, 4, -3, None]),
        "remapped_uncorrectable": st.sampled_from([0, 0, 1, 2, None]),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(values)), max_size=3))
    return good(at, **{name: draw(values[name]) for name in sorted(chosen)})


@st.composite
def signals(draw: st.DrawFn, at: float) -> GpuSignal:
    """Any signal about the one GPU; some events are from before it was met."""
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return draw(accusations(at))
    if kind < 8:
        return draw(readings(at))
    if kind == 8:
        return identity(at)
    if draw(st.booleans()):
        return ClearReport(source=Source.OPERATOR, seen=moment(at), uuid=UUID, operator_reason="ticket")
    return draw(accusations(draw(st.floats(1.0, START - 1.0))))


@st.composite
def histories(draw: st.DrawFn) -> list[GpuSignal]:
    """Signals of one GPU as the agent hears them."""
    at, history = START, []
    for step in draw(st.lists(_STEPS, max_size=20)):
        at += step
        history.append(draw(signals(at)))
    return history


def _end(history: list[GpuSignal]) -> float:
    return max((signal.seen.at for signal in history), default=START)


def _is_terminal(state: GpuState) -> bool:
    """Whether something is broken that no reset repairs."""
    return any(fault.rule.clearing is Clearing.OPERATOR for fault in state.faults)


def _flaps(state: GpuState) -> bool:
    return state.fault(FLAPPING.reason) is not None


@given(histories())
def test_each_signal_twice_is_each_signal_once(history: list[GpuSignal]) -> None:
    twice = [signal for signal in history for _ in range(2)]

    assert fold(*twice) == fold(*history)


@given(histories(), st.data())
def test_a_signal_that_is_heard_again_late_changes_no_verdict(
    history: list[GpuSignal], data: st.DataObject
) -> None:
    state, at = fold(*history), _end(history)
    if history:
        again = data.draw(st.sampled_from(history))
        assert judge(evaluate(advance(state, at, POLICY), again, POLICY), at) == judge(state, at)


@given(histories(), st.data())
def test_one_more_accusation_never_raises_the_score_nor_lifts_a_state(
    history: list[GpuSignal], data: st.DataObject
) -> None:
    state, at = fold(*history), _end(history)
    before = judge(state, at)
    after = judge(evaluate(advance(state, at, POLICY), data.draw(accusations(at)), POLICY), at)

    assert after.score <= before.score
    if before.state is HealthState.UNKNOWN:
        assert after.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)
    else:
        assert _RANKS[after.state] >= _RANKS[before.state]
        assert after.definitive >= before.definitive


@given(st.data())
def test_without_a_reading_a_gpu_is_unknown_or_failed_and_never_anything_better(data: st.DataObject) -> None:
    steps = data.draw(st.lists(_STEPS, max_size=10))
    history = [data.draw(accusations(START + sum(steps[:end]))) for end in range(len(steps))]
    verdict = judge(fold(*history), START + sum(steps))

    assert verdict.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)
    assert verdict.score == 0


@given(histories(), st.floats(60.0, 1e7))
def test_a_gpu_that_nobody_sees_scores_zero_and_is_isolated_by_evidence_only(
    history: list[GpuSignal], silence: float
) -> None:
    """Blindness alone never takes a GPU out, but a hang, which is not blindness, may."""
    state, at = fold(*history), _end(history)
    verdict = judge(state, at + silence)

    assert verdict.score == 0
    assert verdict.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)
    if judge(state, at).state is not HealthState.UNHEALTHY and state.fault(HUNG) is None:
        assert verdict.state is HealthState.UNKNOWN


@given(histories())
def test_a_verdict_is_consistent_whatever_happened(history: list[GpuSignal]) -> None:
    verdict = judge(fold(*history), _end(history))

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


@given(histories())
def test_a_restart_at_any_point_gives_the_same_verdict(history: list[GpuSignal]) -> None:
    plain, restarted = fresh(), fresh()
    for signal in history:
        plain = fold(signal, state=plain)
        stored = msgspec.json.decode(msgspec.json.encode(restarted), type=GpuState)
        taken_up = after_restart(stored, same_boot=True, same_driver_load=True, age_seconds=0)
        restarted = fold(signal, state=taken_up)

    assert judge(restarted, _end(history)) == judge(plain, _end(history))


@given(histories(), st.booleans())
def test_no_boot_and_no_driver_load_heals_before_a_reading(history: list[GpuSignal], same_boot: bool) -> None:
    state, at = fold(*history), _end(history)
    again = after_restart(state, same_boot=same_boot, same_driver_load=False, age_seconds=60)
    after = judge(again, at if same_boot else 1.0)

    assert after.state in (HealthState.UNHEALTHY, HealthState.UNKNOWN)
    if any(isolating(state, fault, at, POLICY) and fault.good_since is None for fault in state.faults):
        assert after.state is HealthState.UNHEALTHY


@given(histories())
def test_recovery_is_reachable_by_a_reset_clean_readings_and_time(history: list[GpuSignal]) -> None:
    """A GPU that flapped has to be watched for a while, here for four minutes."""
    policy = replace(POLICY, flap_quiet_seconds=240)
    state, at = fold(*history, policy=policy), _end(history) + 10
    watched = (good(at + 1 + 50 * step) for step in range(9))
    mended = fold(identity(at), *watched, state=state, policy=policy)
    at += 500 + POLICY.probation_seconds * 2**POLICY.probation_doublings + POLICY.row_remap_memory_seconds
    # Two readings, a window apart: heat is smoothed.
    verdict = judge(fold(*(good(at + 300 * step) for step in range(3)), state=mended), at + 601, policy)

    if _is_terminal(mended):
        assert verdict.state is HealthState.UNHEALTHY
    else:
        assert (verdict.state, verdict.score, verdict.xid_errors) == (HealthState.HEALTHY, 100, 0)


@given(histories())
def test_recovery_is_reachable_by_a_boot_and_by_an_operator(history: list[GpuSignal]) -> None:
    state, at = fold(*history), _end(history)
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


@given(
    st.permutations(
        [
            xid(79, 1001),
            xid(94, 1001),
            xid(45, 1001),
            xid(109, 1001),
            asks(1, 1001),
            OffBusReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS),
        ]
    )
)
def test_the_order_of_simultaneous_events_does_not_matter(events: list[GpuSignal]) -> None:
    reference = fold(good(1000), *sorted(events, key=repr))

    assert judge(fold(good(1000), *events), 1001) == judge(reference, 1001)


@given(st.lists(st.tuples(st.sampled_from([8, 11, 13, 31, 43, 45, 69]), st.sampled_from("abc")), max_size=40))
def test_no_application_xid_isolates_however_often(reports: list[tuple[int, str]]) -> None:
    history = [xid(code, 1001 + index, claim=claim) for index, (code, claim) in enumerate(reports)]

    assert judge(fold(good(1000), *history), 1050).state is not HealthState.UNHEALTHY


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
    """The devices of a node of four after the signals, each folded by whom it concerns; every sibling reads good."""
    states: dict[GpuUuid, tuple[Gpu, GpuState]] = {
        gpu.uuid: (gpu, initial_state(gpu, moment(START))) for gpu in NODE
    }
    for signal in (*history, *(replace(good(at), uuid=gpu.uuid) for gpu in NODE[1:])):
        for uuid, (gpu, state) in states.items():
            if concerns(signal, gpu):
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


def _hurts_no_sibling(history: list[GpuSignal], mode: ServiceMode) -> None:
    at, mine = _end(history), device_name(GPU)
    after, before = _shown(history, at, mode), _shown([], at, mode)

    assert after.keys() - {mine} == before.keys() - {mine}
    assert all(after[name] == before[name] for name in after.keys() - {mine})
    for device in after.values():
        texts = [value for _, value in device.attributes if isinstance(value, str)]
        assert all(0 < len(text) <= MAX_STRING for text in texts)
        assert len({taint.key for taint in device.taints}) == len(device.taints) <= 1


@settings(max_examples=50)
@given(histories(), st.sampled_from(ServiceMode))
def test_nothing_that_is_said_of_one_gpu_changes_a_siblings_device(
    history: list[GpuSignal], mode: ServiceMode
) -> None:
    _hurts_no_sibling(history, mode)


@pytest.mark.long
@pytest.mark.timeout(600)
@settings(max_examples=3000, deadline=None)
@given(histories(), st.sampled_from(ServiceMode))
def test_nothing_that_is_said_of_one_gpu_changes_a_siblings_device_at_length(
    history: list[GpuSignal], mode: ServiceMode
) -> None:
    _hurts_no_sibling(history, mode)
