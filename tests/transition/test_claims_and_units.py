"""Class C by claims and time, XID episodes, and attribution of lines to MIG instances."""

from dataclasses import replace

import pytest

from gpuvitals.health.attribution import affected_gpus, affects
from gpuvitals.model.gpu import DeviceKind, MigInstance
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import ClearReport, OffBusReport, Source
from support.signals import GPU, UUID, asks, fold, good, identity, judge, moment, xid

DAY = 86_400


@pytest.mark.parametrize(
    ("apart", "state"),
    [(DAY - 1, HealthState.DEGRADED), (DAY, HealthState.HEALTHY)],
    ids=["within", "beyond"],
)
def test_two_claims_count_only_within_a_day(apart: int, state: HealthState) -> None:
    at = 1001 + apart
    folded = fold(good(1000), xid(13, 1001, claim="a"), xid(13, at, claim="b"), good(at))

    assert judge(folded, at).state is state


def test_the_window_runs_from_when_a_claim_was_last_met() -> None:
    """One claim hits it for two days; another one meets it half a day after that."""
    history = [xid(13, 1000 + hour * 3600, claim="a") for hour in range(48)]
    at = 1000 + 47 * 3600 + DAY // 2

    assert (
        judge(fold(good(1000), *history, xid(13, at, claim="b"), good(at)), at).state is HealthState.DEGRADED
    )
    later = 1000 + 47 * 3600 + DAY
    alone = fold(good(1000), *history, xid(13, later, claim="b"), good(later))
    assert judge(alone, later).state is HealthState.HEALTHY


def test_the_same_claim_and_an_unknown_one_are_not_two() -> None:
    history = [xid(13, 1001, claim="a"), xid(13, 1300), xid(13, 1600, claim="a")]

    assert judge(fold(good(1000), *history, good(1601)), 1601).state is HealthState.HEALTHY


def test_two_codes_of_two_claims_are_not_one_fault() -> None:
    history = [xid(13, 1001, claim="a"), xid(31, 1002, claim="b")]

    assert judge(fold(good(1000), *history, good(1003)), 1003).state is HealthState.HEALTHY


def test_two_units_are_not_one() -> None:
    history = [replace(xid(13, 1001 + unit, claim=str(unit)), gpu_instance=unit) for unit in range(5)]

    assert judge(fold(good(1000), *history, good(1010)), 1010).state is HealthState.HEALTHY


def test_a_counted_application_xid_counts_once_and_for_a_day() -> None:
    state = fold(good(1000), xid(13, 1001, claim="a"), xid(13, 1002, claim="b"), good(1003))
    verdict = judge(state, 1003)

    assert (verdict.score, verdict.xid_errors, verdict.last_xid) == (90, 1, 13)
    at = 1002 + DAY
    assert judge(fold(good(at), state=state), at).state is HealthState.HEALTHY


def test_errors_are_distinct_by_code_and_unit() -> None:
    history = [xid(94, 1001), xid(63, 1002), xid(94, 1300), replace(xid(94, 1301), gpu_instance=1)]
    verdict = judge(fold(good(1000), *history, good(1302)), 1302)

    assert (verdict.xid_errors, verdict.last_xid) == (3, 94)


def test_two_codes_that_alternate_do_not_alternate_the_newest() -> None:
    """The newest is the episode that began last: otherwise two floods would be a write each turn."""
    history = [xid(63 if second % 2 else 94, 1001 + second) for second in range(100)]
    shown = {judge(fold(good(1000), *history[: end + 2]), 1050).last_xid for end in range(98)}

    assert shown == {63}


def test_errors_leave_the_count_after_a_day_though_the_fault_stays() -> None:
    state = fold(good(1000), xid(79, 1001))
    verdict = judge(fold(good(1001 + DAY), state=state), 1001 + DAY)

    assert (verdict.state, verdict.xid_errors, verdict.last_xid) == (HealthState.UNHEALTHY, 0, 0)


def instance(number: int) -> MigInstance:
    return MigInstance(parent=UUID, profile="1g.10gb", gpu_instance=number, compute_instance=0)


MIGS = [
    replace(GPU, uuid=GpuUuid(f"MIG-{number}"), kind=DeviceKind.MIG, mig=instance(number))
    for number in (1, 2)
]
SIBLING = replace(GPU, uuid=GpuUuid("GPU-other"), bus_id=PciBusId("0000:5e:00.0"))


@pytest.mark.parametrize(
    ("signal", "whom"),
    [
        (xid(79, 1), ["GPU", "MIG-1", "MIG-2"]),
        (replace(xid(94, 1), gpu_instance=1), ["MIG-1"]),
        (replace(xid(94, 1), gpu_instance=1, compute_instance=0), ["MIG-1"]),
        (replace(xid(94, 1), gpu_instance=1, compute_instance=1), []),
        (replace(xid(94, 1), gpu_instance=0), []),
        (replace(xid(79, 1), bus_id=PciBusId("0000:ff:00.0")), []),
        (replace(xid(79, 1), bus_id=None), []),
        (replace(xid(79, 1), bus_id=PciBusId("0000:ff:00.0"), uuid=UUID), ["GPU", "MIG-1", "MIG-2"]),
        (replace(xid(79, 1), uuid=GpuUuid("GPU-unknown")), []),
        (good(1), ["GPU", "MIG-1", "MIG-2"]),
        (identity(1), ["GPU", "MIG-1", "MIG-2"]),
        (asks(1, 1), ["GPU", "MIG-1", "MIG-2"]),
        (OffBusReport(source=Source.KMSG, seen=moment(1), bus_id=None), []),
        (
            ClearReport(source=Source.OPERATOR, seen=moment(1), uuid=UUID, operator_reason="x"),
            ["GPU", "MIG-1", "MIG-2"],
        ),
        (
            ClearReport(source=Source.OPERATOR, seen=moment(1), uuid=GpuUuid("MIG-2"), operator_reason="x"),
            ["MIG-2"],
        ),
    ],
    ids=[
        "the GPU's is every instance's",
        "an instance's is its alone",
        "with its compute instance",
        "another compute instance",
        "instance 0 is an instance",
        "an unknown bus id",
        "nobody named",
        "the UUID decides",
        "an unknown UUID on a known bus id",
        "a reading of the parent",
        "identity",
        "recovery action",
        "off the bus, nobody named",
        "an operator clears a GPU",
        "an operator clears an instance",
    ],
)
def test_a_signal_concerns_whom_it_names_and_nobody_else(signal: object, whom: list[str]) -> None:
    found = [gpu for gpu in (GPU, *MIGS, SIBLING) if affects(signal, gpu)]  # type: ignore[arg-type]  # a table of signals

    assert [gpu.uuid if gpu.mig else "GPU" for gpu in found] == whom
    assert SIBLING not in found


def test_a_fault_of_an_unknown_instance_is_its_gpus_and_no_other_instances() -> None:
    stray = replace(xid(94, 1), gpu_instance=5)

    assert affected_gpus(stray, (GPU, *MIGS, SIBLING)) == (UUID,)
    assert affected_gpus(stray, (SIBLING,)) == ()
    assert affected_gpus(replace(stray, gpu_instance=2), (GPU, *MIGS, SIBLING)) == ("MIG-2",)
