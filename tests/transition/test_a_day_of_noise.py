"""A simulated day on a node of two with a reading of each GPU every twenty or thirty seconds: noise must write nothing.

Noise is heat below the slowdown point, thermal wobble, correctable errors, and an XID without severity that one claim
repeats. Every write of a slice wakes the scheduler for every pending pod.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from gpuvitals.health.isolation import isolated
from gpuvitals.health.publication import worth_publishing
from gpuvitals.health.state import GpuState, initial_state
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import Pool, pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid, NodeName
from gpuvitals.model.signal import GpuSignal, Reading
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from support.signals import POLICY, START, fold, good, judge, links, moment, xid
from support.worlds.snapshots import gpu

DAY = 86_400
QUIET, NOISY = gpu(0), gpu(1)


@dataclass
class Node:
    """The fold, the judge, the rule of publication and the projection, turned as the agent turns them."""

    states: dict[GpuUuid, GpuState] = field(default_factory=dict)
    published: dict[GpuUuid, tuple[Verdict, float]] = field(default_factory=dict)
    projections: list[Pool] = field(default_factory=list)

    def turn(self, at: float, signals: list[tuple[Gpu, GpuSignal]]) -> None:
        for whom, signal in signals:
            known = self.states.get(whom.uuid) or initial_state(whom, moment(START))
            self.states[whom.uuid] = fold(signal, state=known)
        told = False
        for uuid, state in self.states.items():
            current = judge(state, at)
            before, since = self.published.get(uuid, (None, 0.0))
            if worth_publishing(before, current, at - since, POLICY):
                self.published[uuid], told = (current, at), True
        if told:
            self.projections.append(self.projected(at))

    def projected(self, at: float) -> Pool:
        out = isolated([verdict for verdict, _ in self.published.values()], POLICY)
        shown = tuple(
            GpuHealth(
                gpu=one,
                verdict=self.published[one.uuid][0],
                isolated=one.uuid in out,
                state_since=moment(START).time,
            )
            for one in (QUIET, NOISY)
        )
        snapshot = Snapshot(
            revision=1,
            taken=moment(at),
            node=NodeName("node-a"),
            gpus=shown,
            facts=NodeFacts(expected_gpus=2),
        )
        return pool(snapshot, Naming(), ServiceMode.TAINT)

    @property
    def writes(self) -> int:
        """Changed projections after the first."""
        pairs = zip(self.projections, self.projections[1:], strict=False)
        return sum(before != after for before, after in pairs)


def reading(whom: Gpu, at: float, **changes: object) -> Reading:
    return replace(good(at, **changes), uuid=whom.uuid)


def a_day(noise: Callable[[random.Random, float], list[GpuSignal]], step: int = 30) -> Node:
    """The node after a day in which one GPU makes `noise` and the other one is read as good as ever."""
    chance, node = random.Random(79), Node()
    for at in range(int(START), int(START) + DAY, step):
        node.turn(at, [(QUIET, reading(QUIET, at)), *((NOISY, signal) for signal in noise(chance, at))])
    return node


def heat(chance: random.Random, at: float) -> list[GpuSignal]:
    """From cool to a degree from the slowdown point and back, within the hour and from reading to reading."""
    load = 1 + 20 * (int(at) // 600 % 2)
    return [reading(NOISY, at, thermal_margin_celsius=load + chance.randint(0, 9))]


def wobble(chance: random.Random, at: float) -> list[GpuSignal]:
    """About the threshold below which heat counts."""
    return [reading(NOISY, at, thermal_margin_celsius=POLICY.thermal_start_celsius + chance.randint(-3, 3))]


def correctable_errors(chance: random.Random, at: float) -> list[GpuSignal]:
    return [reading(NOISY, at, ecc_corrected_volatile=int(at) * 17_000 + chance.randint(0, 10**6))]


def repeated_xid(chance: random.Random, at: float) -> list[GpuSignal]:
    """A repeated application XID of one claim, floods of cleanup XIDs, and XIDs that the catalogue ignores."""
    codes = [13, 43, 45, 45, 45, 92]
    return [reading(NOISY, at), *(xid(code, at, claim="one") for code in chance.sample(codes, 2))]


def an_xid_a_second(chance: random.Random, at: float) -> list[GpuSignal]:
    """The same XID of the same claim every second, and as often memory errors that were corrected."""
    seconds = range(int(at), int(at) + 30)
    errors = reading(NOISY, at, ecc_corrected_volatile=int(at) * 17_000)
    return [errors, *(xid(13, second + chance.random() / 2, claim="one") for second in seconds)]


def everything(chance: random.Random, at: float) -> list[GpuSignal]:
    hot = 1 + chance.randint(0, 12)
    values = {
        "thermal_margin_celsius": hot,
        "ecc_corrected_volatile": int(at),
        "ecc_uncorrected_aggregate": 7,
    }
    one_bad_poll = {"links": links(17)} if chance.random() < 0.001 else {}
    return [reading(NOISY, at, **values, **one_bad_poll), *repeated_xid(chance, at)[1:]]


@pytest.mark.parametrize(
    ("noise", "step"),
    [
        (heat, 30),
        (wobble, 30),
        (correctable_errors, 30),
        (repeated_xid, 30),
        (an_xid_a_second, 30),
        (everything, 20),
    ],
)
def test_a_day_of_noise_writes_nothing(
    noise: Callable[[random.Random, float], list[GpuSignal]], step: int
) -> None:
    node = a_day(noise, step)

    assert len(node.projections) == 1
    assert node.writes == 0


def test_the_same_day_with_one_fault_writes_so_the_node_does_look() -> None:
    def fault(chance: random.Random, at: float) -> list[GpuSignal]:
        return [*everything(chance, at), *([xid(79, at)] if at == START + DAY // 2 else [])]

    assert a_day(fault).writes == 1
