"""Noise makes one write of the slices a minute at most, whatever the settings and however the GPUs flap."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.policy import Policy
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import Pool, pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.change_budget import ChangeBudget
from gpuvitals.kube.slices.codec import observed_slice
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.slices.plan import PlanContext, change_kind, plan
from gpuvitals.kube.slices.service_change import ChangeKind
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import Source
from support.long_runs import share
from support.worlds.agent_world import AgentWorld, inventory, monitor, reading
from support.worlds.snapshots import snapshot

NAMING = Naming()
OWNER = NodeOwner(name="node-a", uid="uid-node-a")


class Writer:
    """The publisher's decisions in a time of the test's own, on one slice."""

    def __init__(self) -> None:
        self.stored: bytes | None = None
        self.version = 0
        self.budget = ChangeBudget()
        self.writes: list[tuple[float, ChangeKind]] = []

    def reconcile(self, wanted: Pool, now: float) -> float:
        """Performs the due writes. Returns the wait for the next one, 0 if everything is stored."""
        observed = [] if self.stored is None else [observed_slice(self.stored, NAMING.node_report)]
        writes = plan(wanted, OWNER, observed, PlanContext(generation=1, taint_times={}))
        if not writes:
            return 0.0
        kind = change_kind(wanted, observed, writes)
        if kind is not ChangeKind.SERVICE:
            wait = self.budget.take(now, is_fault=kind is ChangeKind.FAULT)
            if wait > 0:
                return wait
        self.version += 1
        body = msgspec.json.decode(writes[0].body or b"")
        body["metadata"] |= {"name": "00000-x", "uid": "u", "resourceVersion": str(self.version)}
        self.stored = msgspec.json.encode(body)
        self.writes.append((now, kind))
        return 0.0

    def count(self, *kinds: ChangeKind) -> int:
        return sum(kind in kinds for _, kind in self.writes)


@dataclass(frozen=True)
class Flap:
    """After `gap` seconds the GPUs of `states` are in that state, the others healthy."""

    gap: float
    states: dict[int, HealthState]


def flaps(*states: HealthState) -> st.SearchStrategy[list[Flap]]:
    chosen = st.dictionaries(st.integers(0, 3), st.sampled_from(states), max_size=4)
    return st.lists(
        st.builds(Flap, gap=st.sampled_from([0.05, 1.0, 3.0, 5.0, 61.0]), states=chosen),
        min_size=1,
        max_size=60,
    )


def play(course: list[Flap]) -> tuple[Writer, float, list[float]]:
    """The writer, the seconds that the course took, and the delay of each change that alters service."""
    writer, now = Writer(), 0.0
    writer.reconcile(pool(snapshot(4), NAMING, ServiceMode.TAINT), now)
    writer.writes.clear()
    late: list[float] = []
    for flap in course:
        now += flap.gap
        before = len(writer.writes)
        out = {index for index, state in flap.states.items() if state is HealthState.UNHEALTHY}
        wait = writer.reconcile(pool(snapshot(4, flap.states), NAMING, ServiceMode.TAINT), now)
        if out != writer_out(writer):
            late.append(wait)
        assert wait == 0 or len(writer.writes) == before
    return writer, now, late


def writer_out(writer: Writer) -> set[int]:
    """The GPUs that the stored slice keeps claims away from."""
    stored = observed_slice(writer.stored or b"", NAMING.node_report)
    names = [entry.name for entry in pool(snapshot(4), NAMING, ServiceMode.TAINT).slices[0].devices]
    return {names.index(name) for name, _, _, effect in stored.taints if effect == "NoSchedule"}


NO_EVIDENCE = (HealthState.HEALTHY, HealthState.UNKNOWN)


def check_blind(course: list[Flap]) -> None:
    writer, seconds, _ = play(course)

    assert len(writer.writes) <= seconds / 60 + 1
    gaps = [
        later - earlier for (earlier, _), (later, _) in zip(writer.writes, writer.writes[1:], strict=False)
    ]
    assert all(gap >= 60 - 1e-3 for gap in gaps)


def check_any(course: list[Flap]) -> None:
    writer, seconds, late = play(course)

    assert writer.count(ChangeKind.FAULT, ChangeKind.OTHER) <= seconds / 60 + 4
    assert not late


@given(flaps(*NO_EVIDENCE))
@settings(max_examples=500, deadline=None)
def test_gpus_that_come_in_and_out_of_sight_are_one_write_a_minute(course: list[Flap]) -> None:
    """Finding R4."""
    check_blind(course)


@given(flaps(*HealthState))
@settings(max_examples=500, deadline=None)
def test_under_flapping_faults_and_returns_are_immediate_and_the_rest_once_a_minute(
    course: list[Flap],
) -> None:
    """Finding R4."""
    check_any(course)


@pytest.mark.long
@pytest.mark.timeout(1200)
@given(flaps(*NO_EVIDENCE), flaps(*HealthState))
@settings(max_examples=share(10_000), deadline=None)
def test_ten_thousand_courses_of_noise_are_one_write_a_minute(blind: list[Flap], course: list[Flap]) -> None:
    """Finding R4."""
    check_blind(blind)
    check_any(course)


@pytest.mark.parametrize("poll", [1, 5, 20, 60])
@pytest.mark.parametrize(
    ("isolates", "mode"), [(0, ServiceMode.TAINT), (1, ServiceMode.TAINT), (1, ServiceMode.WITHDRAW)]
)
def test_an_agent_that_takes_slow_polls_for_blindness_writes_once_a_minute(
    poll: int, isolates: int, mode: ServiceMode
) -> None:
    """Finding R4: the agent's own judgement with `blind_seconds` 3, for ten minutes."""
    with TemporaryDirectory() as folder:
        world = AgentWorld(Path(folder), gpus=2, policy=Policy(blind_seconds=3, isolate_unknown=isolates))
        writer = Writer()
        world.turn(
            1000, inventory(1000, 2), monitor(Source.NVML_POLL), *(reading(index, 1000) for index in (0, 1))
        )
        for second in range(1001, 1601):
            due = [reading(index, second) for index in (0, 1) if (second + index * 2) % max(poll, 5) == 0]
            world.turn(second, *due)
            if world.published:
                latest = world.published[-1]
                writer.reconcile(pool(latest, NAMING, mode), float(second))

    states = {entry.verdict.state for shown in world.published for entry in shown.gpus}
    assert HealthState.UNKNOWN in states
    assert writer.count(ChangeKind.OTHER, ChangeKind.FAULT, ChangeKind.SERVICE) <= 600 / 60 + 2
