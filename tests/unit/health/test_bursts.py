"""XIDs of one fault form one burst, and the XID that started it is the root."""

from dataclasses import replace

from gpuvitals.health.bursts import bursts
from gpuvitals.health.state import GpuState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import Source, XidReport
from support.signals import BUS, POLICY, fold, good, moment, xid

SILENCE = POLICY.burst_silence_seconds


def cleanup(at: float, cause: int | None) -> XidReport:
    return XidReport(source=Source.KMSG, seen=moment(at), bus_id=BUS, code=45, caused_by=cause)


def other(state: GpuState) -> GpuState:
    return replace(state, uuid=GpuUuid("GPU-other"))


def test_a_silence_parts_two_bursts() -> None:
    state = fold(good(1000), xid(13, 1001), xid(31, 1001 + SILENCE - 1), xid(79, 1002 + 2 * SILENCE))

    assert [[each.record.code for each in burst.xids] for burst in bursts([state], POLICY)] == [
        [13, 31],
        [79],
    ]


def test_an_echo_on_a_neighbour_is_of_the_same_burst_and_not_its_root() -> None:
    echo = other(fold(good(1000), xid(74, 1001)))
    state = fold(good(1000), xid(119, 1002))
    (burst,) = bursts([echo, state], POLICY)

    assert (burst.root.record.code, burst.root.gpu) == (119, state.uuid)
    assert (burst.first_at, burst.last_at, burst.is_named) == (1001, 1002, False)


def test_the_cause_that_the_driver_names_is_the_root() -> None:
    (burst,) = bursts([fold(good(1000), xid(79, 1001), xid(13, 1002), cleanup(1003, 13))], POLICY)

    assert (burst.root.record.code, burst.is_named) == (13, True)


def test_a_cleanup_begins_nothing_unless_it_is_alone() -> None:
    (burst,) = bursts([fold(good(1000), cleanup(1001, None), xid(13, 1002))], POLICY)
    (alone,) = bursts([fold(good(1000), cleanup(1001, 79))], POLICY)

    assert burst.root.record.code == 13
    assert (alone.root.record.code, alone.is_named) == (45, False)


def test_a_new_episode_forgets_the_cause_of_the_one_before() -> None:
    state = fold(good(1000), cleanup(1001, 13), cleanup(1002 + SILENCE, None), xid(13, 1003 + SILENCE))

    assert not bursts([state], POLICY)[-1].is_named


def test_no_xid_is_no_burst() -> None:
    assert bursts([fold(good(1000))], POLICY) == ()
