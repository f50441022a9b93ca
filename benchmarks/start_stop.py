"""B10: from exec to the answer to GetInfo and to the slice at a watcher, and from SIGTERM to the exit.

Each start is that of a new node: nothing is on disk and no slice is there. The files are in the page cache. The upstream
helper looks once a second whether its informer has synced, which is most of the peer's time to the slice.
"""

from collections.abc import Sequence

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import Ours
from benchmarks.harness.pair import published
from benchmarks.harness.peer import Peer
from benchmarks.harness.processes import Json
from benchmarks.harness.side import Side
from benchmarks.harness.starting import start
from benchmarks.harness.stats import median

STARTS = 3

_Times = tuple[float, float, float]
"""Milliseconds: GetInfo, slice, stop."""


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B10."""
    _, devices = _life(lab, Side(lab, Ours(lab)))  # fills the page cache
    ours: list[_Times] = []
    peer: list[_Times] = []
    for number in range(rounds):
        lab.say(f"B10 round {number + 1} of {rounds}")
        ours.append(_middle([_life(lab, Side(lab, Ours(lab)))[0] for _ in range(STARTS)]))
        peer.append(_middle([_life(lab, Side(lab, Peer(lab, devices)))[0] for _ in range(STARTS)]))
    names = ("exec to GetInfo answered", "exec to slice at a watcher", "SIGTERM to exit")
    limits = (300.0, 1000.0, 1000.0)
    return [
        Figure(
            benchmark="B10",
            name=name,
            unit="ms",
            ours=[times[part] for times in ours],
            peer=[times[part] for times in peer],
            targets=(Target(limit=limits[part]),),
        )
        for part, name in enumerate(names)
    ]


def _life(lab: Lab, side: Side) -> tuple[_Times, list[Json]]:
    with side, lab.watch_slices(side.node) as watcher:
        started = start(side, watcher)
        devices = published(lab, side)
        return (started.answered_ms, started.published_ms, side.driver.stop() * 1000), devices


def _middle(lives: Sequence[_Times]) -> _Times:
    first, second, third = (median([life[part] for life in lives]) for part in range(3))
    return first, second, third
