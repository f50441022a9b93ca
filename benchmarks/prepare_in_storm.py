"""B6: NodePrepareResources while NVML hangs and a fault storm runs, beside the same agent at rest.

One agent with eight GPUs, six of them claimed. Each round begins at rest; then the NVML calls on one GPU stop returning, and
another GPU floods the kernel log with XIDs of applications and of contained errors, 200 lines a second. The calls are timed
from the start of the hang, through both deadlines, the kill and the replacement of the worker.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.kubelet import Call
from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import Ours
from benchmarks.harness.side import Side
from benchmarks.harness.stats import percentile
from gpuvitals_sim.hardware.scripted_node import ScriptedNode

CYCLES = 25
_CLAIMED, _STORMY, _HUNG = 6, 6, 7
_APART_SECONDS = 0.1
_HANG_SECONDS = 3600.0
_CALM_SECONDS = 8.0
"""From the end of a storm to the next poll of every GPU."""

_LINES_PER_SECOND = 200
_STORM = (
    (13, "Graphics Exception: ESR 0x505648=0x1000e"),
    (31, "MMU Fault: ENGINE GRAPHICS GPC0 faulted @ 0x7f51_40000000"),
    (94, "Contained: SM (0x1). RST: No, D-RST: No"),
    (43, "Ch 00000010"),
)


class Hardware(Protocol):
    """The GPUs and the kernel log of a storm."""

    gpus: ScriptedNode

    def kernel_line(self, text: str) -> int:
        """Appends one record of the kernel."""
        ...


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B6."""
    quiet: list[list[float]] = []
    stormy: list[list[float]] = []
    agent = Ours(lab)
    with Side(lab, agent) as side:
        side.up()
        side.allocate(_CLAIMED)
        _cycle(side)  # the first calls of a process fill its caches
        for number in range(rounds):
            lab.say(f"B6 round {number + 1} of {rounds}")
            quiet.append(_samples(side))
            with storm(agent):
                stormy.append(_samples(side))
            time.sleep(_CALM_SECONDS)
    return [
        _figure("p50", 0.5, stormy, quiet, ()),
        _figure("p99", 0.99, stormy, quiet, (Target(ratio=1.2), Target(limit=20.0))),
    ]


@contextmanager
def storm(hardware: Hardware) -> Iterator[None]:
    """One GPU hangs and another one floods the log, until the end of the block."""
    over = threading.Event()
    where = hardware.gpus.gpus[_STORMY].bus_id.rsplit(".", 1)[0]

    def flood() -> None:
        for code, text in itertools.cycle(_STORM):
            if over.wait(1 / _LINES_PER_SECOND):
                return
            hardware.kernel_line(f"NVRM: Xid (PCI:{where}): {code}, pid=4242, name=train, {text}")

    flooding = threading.Thread(target=flood, name="storm")
    hardware.gpus.hang(_HUNG, _HANG_SECONDS)
    flooding.start()
    try:
        yield
    finally:
        over.set()
        flooding.join()
        hardware.gpus.hang(_HUNG, 0)
        hardware.gpus.event(_HUNG)


def _samples(side: Side) -> list[float]:
    return [milliseconds for _ in range(CYCLES) for milliseconds in _cycle(side)]


def _cycle(side: Side) -> list[float]:
    """Each claim prepared by a call of its own, and unprepared again; the milliseconds of the prepares."""
    lone: list[Call] = [[claim] for claim in side.claims]
    timed = side.kubelet.prepare(lone, apart_seconds=_APART_SECONDS)
    side.kubelet.unprepare([side.claims])
    return [seconds * 1000 for seconds in timed.calls]


def _figure(
    name: str,
    share: float,
    ours: Sequence[Sequence[float]],
    quiet: Sequence[Sequence[float]],
    targets: Sequence[Target],
) -> Figure:
    return Figure(
        benchmark="B6",
        name=f"1 claim a call in the storm, {name}, beside the agent at rest",
        unit="ms",
        ours=[percentile(samples, share) for samples in ours],
        peer=[percentile(samples, share) for samples in quiet],
        targets=targets,
    )
