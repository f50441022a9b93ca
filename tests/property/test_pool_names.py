"""Device names never depend on health: cluster-autoscaler compares the names of a pool with its template's."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.unusable import files_missing
from gpuvitals.inventory.device import Device
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.files import Lack
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import Reason
from gpuvitals.model.snapshot import GpuHealth, Snapshot
from support.long_runs import share
from support.worlds.snapshots import entry, snapshot

LACK = Lack(Reason("DeviceNodesMissing"), "no nvidia-uvm")


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Snapshot, Snapshot]:
    """Two views of one node: the same GPUs, whatever their states, and with or without the driver's files."""
    count = draw(st.integers(1, 80))

    def view() -> Snapshot:
        gpus: list[GpuHealth] = []
        for index in range(count):
            state, lacking = draw(st.sampled_from(HealthState)), draw(st.booleans())
            shown = entry(index, state)
            if lacking:
                shown = replace(shown, isolated=True, unprepared=files_missing(shown.verdict, LACK))
            gpus.append(shown)
        return replace(snapshot(count), gpus=tuple(gpus))

    return view(), view()


def names(node: Snapshot, mode: ServiceMode) -> list[set[str]]:
    return [{device.name for device in part.devices} for part in pool(node, Naming(), mode).slices]


def check(found: tuple[Snapshot, Snapshot]) -> None:
    one, other = found
    assert names(one, ServiceMode.TAINT) == names(other, ServiceMode.TAINT)
    for part in pool(one, Naming(), ServiceMode.TAINT).slices:
        for device in part.devices:
            _is_marked(
                device, next(each for each in one.gpus if each.gpu.uuid == dict(device.attributes)["uuid"])
            )
    kept = {name for part in names(one, ServiceMode.WITHDRAW) for name in part}
    assert len(kept) == sum(not each.isolated for each in one.gpus)


def _is_marked(device: Device, shown: GpuHealth) -> None:
    """A device that can't be prepared has its own key, score 0 and reason, and nothing else of it differs."""
    if shown.unprepared is None:
        return
    (taint,) = device.taints
    assert (taint.key, taint.value) == ("gpu.vitals.internal/unprepared", "DeviceNodesMissing")
    listed = dict(device.attributes)
    assert (listed["health/score"], listed["health/reason"]) == (0, "DeviceNodesMissing")


def running(examples: int) -> Callable[[], None]:
    checked = given(nodes())(check)
    return settings(max_examples=examples, deadline=None)(checked)


def test_a_pools_names_are_the_same_whatever_happens_to_its_gpus() -> None:
    """Finding P9: in mode taint no name comes or goes, in no slice; in mode withdraw those out of service do."""
    running(500)()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_pools_names_are_the_same_at_length() -> None:
    running(share(10_000))()
