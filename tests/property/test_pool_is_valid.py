"""Promises of the pool, whatever happens to boards, buses, divisions and boots.

The pool always validates by the API server's own rules, and a fault of one GPU is published however broken the identity
of its siblings is. The real agent, memory on disk and projection; only the driver's lists and the log's lines are made up.
"""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuvitals.inventory.device import MAX_STRING
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import Pool, pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.codec import NodeOwner, Placement, Stored, slice_body
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import InventoryReport, Reading, Signal, Source
from gpuvitals_sim.apiserver.strategy.slices import SLICE_RULES
from support.long_runs import share
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, lost, reading

SLOTS = 3
SICK = 5
"""The slot of a GPU that keeps its identity, and whose fault has to be published."""
OWNER = NodeOwner(name="node-a", uid="uid-of-node-a")

slots = st.integers(0, SLOTS - 1)
boards = st.sampled_from("abcdef")
odd_texts = st.one_of(
    st.sampled_from(["", "1g.10gb", "1c.3g.40gb", "1g.10gb+me", "3g.40gb"]), st.text(max_size=MAX_STRING * 2)
)
odd_numbers = st.one_of(st.integers(0, 8), st.integers(-(2**70), 2**70))


@st.composite
def instances(draw: st.DrawFn) -> list[MigInstance]:
    return [
        MigInstance(
            parent=GpuUuid(""),
            profile=draw(odd_texts),
            gpu_instance=draw(st.integers(0, 14)),
            compute_instance=draw(st.integers(0, 7)),
            placement=draw(st.one_of(st.none(), st.integers(0, 7))),
            compute_placement=draw(st.one_of(st.none(), st.integers(0, 7))),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]


@st.composite
def boxes(draw: st.DrawFn) -> dict[str, object]:
    """Values of a board besides its identity; a broken board can report any value."""
    return {
        "product_name": draw(odd_texts),
        "architecture": draw(odd_texts),
        "driver_version": draw(odd_texts),
        "minor": draw(st.one_of(st.none(), odd_numbers)),
        "numa_node": draw(st.one_of(st.none(), odd_numbers)),
        "memory_bytes": draw(st.integers(0, 2**62)),
    }


@dataclass(frozen=True)
class Listed:
    """One line of the driver's list."""

    slot: int
    board: str
    facts: dict[str, object] = field(default_factory=dict)
    parts: tuple[MigInstance, ...] = ()

    @property
    def uuid(self) -> GpuUuid:
        return GpuUuid(f"GPU-{self.board}")

    def gpus(self) -> list[Gpu]:
        bus_id = PciBusId(f"0000:{self.slot:02x}:00.0")
        whole = replace(
            Gpu(uuid=self.uuid, bus_id=bus_id, product_name="NVIDIA H100", memory_bytes=1),
            **self.facts,  # type: ignore[arg-type]  # drawn by name
            mig_enabled=bool(self.parts),
        )
        return [
            whole,
            *(
                replace(
                    whole,
                    uuid=GpuUuid(f"MIG-{self.board}-{place}"),
                    kind=DeviceKind.MIG,
                    mig=replace(part, parent=self.uuid),
                    mig_enabled=False,
                    minor=None,
                )
                for place, part in enumerate(self.parts)
            ),
        ]


listings = st.lists(
    st.builds(Listed, slots, boards, st.one_of(st.just({}), boxes()), instances().map(tuple)), max_size=4
)


@dataclass(frozen=True)
class Step:
    """One turn: the driver's list, lines about slots, GPUs that are lost, claims that hold, and whether it is a new boot."""

    listed: list[Listed]
    faults: list[tuple[int, int]]
    gone: list[int]
    held: set[str]
    boots: bool
    is_listed: bool


steps = st.builds(
    Step,
    listings,
    st.lists(st.tuples(slots, st.sampled_from([31, 48, 63, 79, 94, 95, 119])), max_size=2),
    st.lists(slots, max_size=1),
    st.sets(
        st.sampled_from([f"{kind}-{board}" for kind in ("GPU", "MIG-a", "MIG") for board in "abc0"]),
        max_size=3,
    ),
    st.booleans(),
    st.booleans(),
)
histories = st.lists(steps, min_size=1, max_size=6)


def live(folder: Path, history: list[Step], *, sick_at: int = -1) -> AgentWorld:
    """The agent after this history; at step `sick_at` the GPU in slot SICK falls off the bus."""
    at, boot, world = 1000.0, 0, AgentWorld(folder, "boot-0")
    steady = Listed(SICK, "steady")
    for number, step in enumerate(history):
        if step.boots:
            boot, at = boot + 1, 50.0
            world = AgentWorld(folder, f"boot-{boot}")
        world.devices.by_device = {GpuUuid(uuid): ("claim",) for uuid in step.held}
        at += 30
        listed = [*step.listed, steady]
        found = tuple(gpu for each in listed for gpu in each.gpus())
        signals: list[Signal] = [fault(slot, code, at) for slot, code in step.faults]
        if step.is_listed or step.boots or number == 0:
            signals.append(
                InventoryReport(source=Source.NVML_POLL, seen=moment(at), gpus=found, driver_load="570.1")
            )
            signals += [_reading(each.uuid, at) for each in listed]
        signals += [lost(slot, at) for slot in step.gone]
        if number == sick_at:
            signals.append(fault(SICK, 79, at))
        world.turn(at, *signals)
        at += 6
        world.turn(at)
    return world


def _reading(uuid: GpuUuid, at: float) -> Reading:
    return replace(reading(0, at), uuid=uuid)


def refusals(planned: Pool) -> list[str]:
    """The API server's validation errors for the slices of a pool."""
    place = Placement(generation=1, count=len(planned.slices))
    found: list[str] = []
    for part in planned.slices:
        body = slice_body(part, planned, OWNER, place, Stored(foreign={}, times={}))
        found += [f"{error.field}: {error.body}" for error in SLICE_RULES.validate_create(body)]
    names = [device.name for part in planned.slices for device in part.devices]
    found += [f"duplicate {name}" for name in names if names.count(name) > 1]
    return found


def check_valid(history: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="gv-pool-") as folder:
        world = live(Path(folder), history)
        for snapshot in world.published[-3:]:
            slots = [entry.gpu.bus_id for entry in snapshot.gpus if entry.gpu.mig is None]
            assert len(set(slots)) == len(slots), "one GPU a slot"
            for mode in ServiceMode:
                assert refusals(pool(snapshot, Naming(), mode)) == []


def check_published(history: list[Step], sick_at: int) -> None:
    sick_at %= len(history)
    history = [*history[: sick_at + 1], *(replace(step, boots=False) for step in history[sick_at + 1 :])]
    with tempfile.TemporaryDirectory(prefix="gv-pool-") as folder:
        world = live(Path(folder), history, sick_at=sick_at)
        planned = pool(world.published[-1], Naming(), ServiceMode.TAINT)
        (sick,) = [
            device
            for part in planned.slices
            for device in part.devices
            if dict(device.attributes)["uuid"] == "GPU-steady"
        ]
        assert [(taint.value, taint.effect.value) for taint in sick.taints] == [("Xid79", "NoSchedule")]
        assert refusals(planned) == []


QUICK = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=share(10_000), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(600)
@QUICK
@given(histories)
def test_a_pool_always_validates(history: list[Step]) -> None:
    """Findings R1 and N1: board swaps, renumberings, MIG divisions, reboots, losses, and contradictory lists."""
    check_valid(history)


@pytest.mark.timeout(600)
@QUICK
@given(histories, st.integers(0, 5))
def test_a_fault_is_published_however_broken_its_siblings_are(history: list[Step], sick_at: int) -> None:
    """Findings R1 and N1."""
    check_published(history, sick_at)


@pytest.mark.long
@pytest.mark.timeout(7200)
@LONG
@given(histories)
def test_a_pool_always_validates_at_length(history: list[Step]) -> None:
    """Findings R1 and N1."""
    check_valid(history)


@pytest.mark.long
@pytest.mark.timeout(7200)
@LONG
@given(histories, st.integers(0, 5))
def test_a_fault_is_published_however_broken_its_siblings_are_at_length(
    history: list[Step], sick_at: int
) -> None:
    """Findings R1 and N1."""
    check_published(history, sick_at)
