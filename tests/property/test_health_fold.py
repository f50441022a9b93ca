"""What must hold for every history of one GPU."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.healing import after_restart
from gpuvitals.health.isolation import isolated
from gpuvitals.health.publication import worth_publishing
from gpuvitals.health.state import GpuState
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import (
    ConfigSpace,
    GpuSignal,
    LinkState,
    OffBusReport,
    PresenceReport,
    ReadStatus,
    Source,
)
from support.signals import BUS, POLICY, UUID, broken, fold, fresh, good, identity, judge, moment, xid

_CODES = st.sampled_from([8, 13, 31, 43, 45, 48, 63, 74, 79, 92, 94, 95, 109, 119, 144, 154, 174, 999])
_STEPS = st.sampled_from([0.0, 0.5, 4.0, 20.0, 61.0, 200.0, 400.0, 4000.0])


def _signal(kind: int, code: int, at: float) -> GpuSignal:
    match kind % 8:
        case 0 | 1:
            return xid(code, at, claim="a" if kind == 0 else "b")
        case 2:
            return good(at)
        case 3:
            return good(at, recovery_action=code % 9)
        case 4:
            return good(
                at, links=(LinkState.ACTIVE,) * (code % 19) + (LinkState.INACTIVE,) * (18 - code % 19)
            )
        case 5:
            return broken(at, list(ReadStatus)[1 + code % 4])
        case 6:
            return identity(at)
        case _:
            return PresenceReport(
                source=Source.SYSFS,
                seen=moment(at),
                bus_id=BUS,
                uuid=UUID,
                present=code % 2 == 0,
                config_space=ConfigSpace.ANSWERS,
            )


@st.composite
def histories(draw: st.DrawFn) -> list[GpuSignal]:
    """Signals of one GPU in the order of their times."""
    at = 1000.0
    signals = []
    for kind, code, step in draw(st.lists(st.tuples(st.integers(0, 8), _CODES, _STEPS), max_size=25)):
        at += step
        signals.append(_signal(kind, code, at))
    return signals


def _end(history: list[GpuSignal]) -> float:
    return history[-1].seen.at if history else 1000.0


@given(histories())
def test_folding_a_signal_twice_changes_nothing(history: list[GpuSignal]) -> None:
    state = fold(*history)
    for signal in history[-1:]:
        assert evaluate(state, signal, POLICY) == state


@given(histories(), _CODES)
def test_one_more_xid_never_raises_the_score_or_lifts_an_isolation(
    history: list[GpuSignal], code: int
) -> None:
    state, at = fold(*history), _end(history)
    before = judge(state, at)
    after = judge(evaluate(advance(state, at, POLICY), xid(code, at), POLICY), at)

    assert after.score <= before.score
    if before.state is HealthState.UNHEALTHY:
        assert after.state is HealthState.UNHEALTHY


@given(st.lists(st.tuples(_CODES, _STEPS), max_size=10))
def test_without_a_reading_a_gpu_is_never_called_healthy(reports: list[tuple[int, float]]) -> None:
    history = [xid(code, 1000 + step) for code, step in reports]

    assert judge(fold(*history), 9000).state in (HealthState.UNKNOWN, HealthState.UNHEALTHY)


@given(histories())
def test_only_unhealthy_isolates_and_unknown_scores_zero(history: list[GpuSignal]) -> None:
    verdict = judge(fold(*history), _end(history))

    out = isolated([verdict] * 2, POLICY)
    assert (verdict.uuid in out) <= (verdict.state is HealthState.UNHEALTHY)
    if verdict.state in (HealthState.UNKNOWN, HealthState.UNHEALTHY):
        assert verdict.score == 0
    assert 0 <= verdict.score <= 100
    assert 0 <= verdict.coverage <= 100


@given(histories())
def test_a_restart_at_any_point_gives_the_same_verdict(history: list[GpuSignal]) -> None:
    plain, restarted = fresh(), fresh()
    for signal in history:
        plain = fold(signal, state=plain)
        stored = msgspec.json.decode(msgspec.json.encode(restarted), type=GpuState)
        restarted = fold(
            signal, state=after_restart(stored, same_boot=True, same_driver_load=True, age_seconds=1)
        )

    assert judge(restarted, _end(history)) == judge(plain, _end(history))


@given(histories())
def test_recovery_is_reachable_from_every_state_that_a_reset_repairs(history: list[GpuSignal]) -> None:
    state, at = fold(*history), _end(history) + 10
    mended = fold(identity(at), good(at + 1), good(at + 100), state=state)
    late = at + 200_000
    mended = fold(good(late), state=mended)

    assert judge(mended, late + 1).state in (HealthState.HEALTHY, HealthState.DEGRADED)


@given(
    st.permutations(
        [
            xid(79, 1001),
            xid(94, 1001),
            xid(45, 1001),
            OffBusReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS),
        ]
    )
)
def test_the_order_of_simultaneous_events_does_not_matter(signals: list[GpuSignal]) -> None:
    reference = fold(
        good(1000),
        xid(45, 1001),
        xid(79, 1001),
        xid(94, 1001),
        OffBusReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS),
    )

    assert judge(fold(good(1000), *signals), 1001) == judge(reference, 1001)


@given(st.lists(st.sampled_from([8, 11, 13, 31, 43, 45, 69]), max_size=40))
def test_no_application_xid_isolates_however_often(codes: list[int]) -> None:
    state = fold(
        good(1000), *(xid(code, 1001 + index, claim=str(index % 3)) for index, code in enumerate(codes))
    )

    assert judge(state, 1050).state is not HealthState.UNHEALTHY


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000))
def test_a_day_of_noise_publishes_once(seed: int) -> None:
    """Heat, correctable errors and one claim's application XID, for 24 simulated hours: one publication, the first."""
    state, published, published_at, writes = fresh(), None, 0.0, 0
    for step in range(0, 86_400, 30):
        at = 1000.0 + step
        margin = 3 + (seed + step * 7) % 40
        state = fold(
            good(at, thermal_margin_celsius=margin, ecc_corrected_volatile=step * 17_000), state=state
        )
        state = fold(xid(13 if step % 60 else 43, at, claim="one"), state=state)
        verdict = judge(state, at)
        if worth_publishing(published, verdict, at - published_at, POLICY):
            published, published_at, writes = verdict, at, writes + 1

    assert writes == 1
