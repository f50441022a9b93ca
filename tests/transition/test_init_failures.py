"""A GPU that the driver could not initialise is out of service until it is read."""

import pytest

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.witnesses import Witness, witnesses
from gpuvitals.model.health import Confidence, HealthState
from gpuvitals.model.signal import InitFailureReport, OffBusReport, Source
from support.signals import BUS, fold, good, judge, moment, xid


def failed(at: float) -> InitFailureReport:
    return InitFailureReport(source=Source.KMSG, seen=moment(at), bus_id=BUS)


def test_it_isolates_at_once_on_one_witness() -> None:
    """Finding L5."""
    state = fold(good(1000), failed(1001))
    judged = judge(state, 1001)

    assert (judged.state, judged.reason, judged.confidence) == (
        HealthState.UNHEALTHY,
        "InitFailed",
        Confidence.SINGLE,
    )
    assert state.faults[0].rule.fault_class is FaultClass.A
    assert witnesses(state, state.faults[0]) == {Witness.INIT_LINE}


def test_readings_end_it_and_time_does_not() -> None:
    """Finding L5."""
    state = fold(good(1000), failed(1001))
    read = fold(good(1000), failed(1001), *(good(at) for at in range(1010, 1400, 10)))

    assert judge(state, 500_000).reason == "InitFailed"
    assert judge(read, 1390).state is not HealthState.UNHEALTHY


def test_a_line_that_is_read_back_after_a_reading_says_nothing() -> None:
    """Finding L5: the ring of the kernel log holds lines from before a repair."""
    assert judge(fold(good(1000), failed(900)), 1000).reason == "None"
    assert judge(fold(failed(900), good(1000)), 1000).state is HealthState.HEALTHY


@pytest.mark.parametrize(
    "fault", [xid(119, 1001), xid(79, 1001), OffBusReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS)]
)
def test_it_is_no_second_witness_of_what_was_logged_before_it(fault: object) -> None:
    """Finding L5: the driver's own lines are one witness."""
    state = fold(good(1000), fault, failed(1002))  # type: ignore[arg-type]  # each is a signal

    assert judge(state, 1002).confidence is Confidence.SINGLE


def test_a_driver_load_heals_nothing_until_the_gpu_is_read() -> None:
    """Finding L2."""
    state = after_restart(
        fold(good(1000), xid(79, 1001)), same_boot=True, same_driver_load=False, age_seconds=0
    )

    assert judge(state, 1100).state is HealthState.UNHEALTHY
    assert judge(fold(failed(1110), state=state), 1110).state is HealthState.UNHEALTHY
    assert judge(fold(good(1120), good(1130), state=state), 1130).reason == "Probation"
