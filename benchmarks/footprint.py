"""B9: memory and CPU of idle drivers with 8 devices and one prepared claim: the agent's parent and worker, the peer.

Both idle side by side in the same minute, freshly started in each round. The worker reads scripted GPUs: it is the real one
without NVIDIA's library.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.pair import Pair, pair
from benchmarks.harness.processes import LabError
from benchmarks.harness.procfs import Usage, children, usage

SETTLE_SECONDS = 10.0
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "30"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idle:
    """One process over the idle time."""

    resident_mib: float
    private_mib: float
    cpu_percent: float
    wakeups_per_second: float


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B9."""
    found: list[tuple[_Idle, _Idle, _Idle]] = []
    for number in range(rounds):
        lab.say(f"B9 round {number + 1} of {rounds}")
        with pair(lab) as both:
            found.append(_idle(both))
    parent, worker, peer = ([each[part] for each in found] for part in range(3))
    return [
        *_figures("parent", parent, peer, memory=(Target(ratio=1.7), Target(limit=80.0))),
        *_figures("worker", worker, (), memory=(Target(limit=40.0),)),
    ]


def _idle(both: Pair) -> tuple[_Idle, _Idle, _Idle]:
    for side in both.sides:
        side.allocate(1)
        side.kubelet.prepare([[claim] for claim in side.claims])
    time.sleep(SETTLE_SECONDS)
    parent = both.agent.pid
    workers = children(parent)
    if len(workers) != 1:
        raise LabError(f"the agent has {len(workers)} children instead of one worker")
    pids = (parent, workers[0], both.peer.driver.pid)
    before = [usage(pid) for pid in pids]
    time.sleep(IDLE_SECONDS)
    after = [usage(pid) for pid in pids]
    first, second, third = (_over(*each) for each in zip(before, after, strict=True))
    return first, second, third


def _over(before: Usage, after: Usage) -> _Idle:
    return _Idle(
        resident_mib=after.resident_mib,
        private_mib=after.private_mib,
        cpu_percent=100 * (after.cpu_seconds - before.cpu_seconds) / IDLE_SECONDS,
        wakeups_per_second=(after.wakeups - before.wakeups) / IDLE_SECONDS,
    )


def _figures(
    process: str, ours: Sequence[_Idle], peer: Sequence[_Idle], memory: Sequence[Target]
) -> list[Figure]:
    def figure(
        name: str, unit: str, value: Callable[[_Idle], float], targets: Sequence[Target] = ()
    ) -> Figure:
        return Figure(
            benchmark="B9",
            name=f"{process}, {name}",
            unit=unit,
            ours=[value(each) for each in ours],
            peer=[value(each) for each in peer],
            targets=targets,
        )

    return [
        figure("RSS", "MiB", lambda idle: idle.resident_mib, memory),
        figure("private memory", "MiB", lambda idle: idle.private_mib),
        figure("CPU when idle", "% of a core", lambda idle: idle.cpu_percent, (Target(limit=0.5),)),
        figure("wake-ups when idle", "1/s", lambda idle: idle.wakeups_per_second),
    ]
