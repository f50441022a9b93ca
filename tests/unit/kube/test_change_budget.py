"""Which changes of a slice may wait, and for how long."""

from dataclasses import replace

import pytest

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.change_budget import ChangeBudget
from gpuvitals.kube.slices.codec import pool_uses
from gpuvitals.kube.slices.service_change import ChangeKind, kind_of_change
from gpuvitals.model.health import HealthState
from gpuvitals.model.snapshot import Snapshot
from support.worlds.snapshots import snapshot

HEALTHY = snapshot()
SPARED = replace(
    snapshot(8, {3: HealthState.UNHEALTHY}),
    gpus=tuple(replace(entry, isolated=False) for entry in snapshot(8, {3: HealthState.UNHEALTHY}).gpus),
)
DEGRADED = snapshot(8, {3: HealthState.DEGRADED})
UNKNOWN = snapshot(8, {3: HealthState.UNKNOWN})
UNHEALTHY = snapshot(8, {3: HealthState.UNHEALTHY})
BLIND_AND_OUT = replace(
    UNKNOWN, gpus=tuple(replace(entry, isolated=entry.verdict.score == 0) for entry in UNKNOWN.gpus)
)


def kind(before: Snapshot, after: Snapshot, mode: ServiceMode = ServiceMode.TAINT) -> ChangeKind:
    naming = Naming()
    return kind_of_change(pool_uses(pool(before, naming, mode)), pool_uses(pool(after, naming, mode)))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(HEALTHY, UNHEALTHY, ChangeKind.SERVICE, id="isolated"),
        pytest.param(UNHEALTHY, HEALTHY, ChangeKind.SERVICE, id="returned"),
        pytest.param(HEALTHY, SPARED, ChangeKind.SERVICE, id="failed-and-spared"),
        pytest.param(HEALTHY, snapshot(7), ChangeKind.SERVICE, id="a-device-less"),
        pytest.param(HEALTHY, DEGRADED, ChangeKind.FAULT, id="degraded"),
        pytest.param(UNKNOWN, DEGRADED, ChangeKind.FAULT, id="degraded-after-unknown"),
        pytest.param(DEGRADED, HEALTHY, ChangeKind.FAULT, id="no-longer-degraded"),
        pytest.param(DEGRADED, UNKNOWN, ChangeKind.OTHER, id="degraded-and-then-blind"),
        pytest.param(HEALTHY, UNKNOWN, ChangeKind.OTHER, id="blind"),
        pytest.param(UNKNOWN, HEALTHY, ChangeKind.OTHER, id="sees-again"),
        pytest.param(HEALTHY, BLIND_AND_OUT, ChangeKind.OTHER, id="blind-and-kept-away-by-policy"),
        pytest.param(HEALTHY, HEALTHY, ChangeKind.OTHER, id="nothing"),
    ],
)
def test_a_change_is_weighed_by_what_it_means_for_claims(
    before: Snapshot, after: Snapshot, expected: ChangeKind
) -> None:
    """Finding R4."""
    assert kind(before, after) is expected


def test_a_device_that_is_withdrawn_or_comes_back_alters_service() -> None:
    """Finding R4."""
    assert kind(HEALTHY, UNHEALTHY, ServiceMode.WITHDRAW) is ChangeKind.SERVICE
    assert kind(UNHEALTHY, HEALTHY, ServiceMode.WITHDRAW) is ChangeKind.SERVICE


def test_a_device_that_is_withdrawn_because_nobody_could_read_it_alters_no_service() -> None:
    """Finding R4: a policy may withdraw unreadable GPUs, which flap with the monitor."""
    assert kind(HEALTHY, BLIND_AND_OUT, ServiceMode.WITHDRAW) is ChangeKind.OTHER
    assert kind(BLIND_AND_OUT, HEALTHY, ServiceMode.WITHDRAW) is ChangeKind.OTHER
    assert kind(BLIND_AND_OUT, UNHEALTHY, ServiceMode.WITHDRAW) is ChangeKind.SERVICE


def test_noise_waits_for_its_minute_and_the_first_of_it_does_not() -> None:
    """Finding R4."""
    budget = ChangeBudget()

    assert budget.take(1000, is_fault=False) == 0
    assert budget.take(1010, is_fault=False) == pytest.approx(50)
    assert budget.take(1060, is_fault=False) == 0


def test_new_faults_of_gpus_in_service_are_written_at_once_up_to_four() -> None:
    """Finding R4."""
    budget = ChangeBudget()

    assert [budget.take(1000, is_fault=True) for _ in range(4)] == [0, 0, 0, 0]
    assert budget.take(1000, is_fault=True) == pytest.approx(60)
    assert budget.take(1030, is_fault=True) == pytest.approx(30)
