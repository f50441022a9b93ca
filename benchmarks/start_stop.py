"""B10: from exec to the answer to GetInfo and to the slice at a watcher, and from SIGTERM to the exit.

Each start is that of a new node: nothing is on disk and no slice exists. The files are in the page cache. The upstream
helper checks once a second whether its informer has synced, which is most of the peer's time to the slice. Beside a bare
Python process, *Go peer* is that process: it imports grpc, serves the same registration socket, and does nothing else.
"""

from collections.abc import Sequence

from benchmarks.harness.bare import bare_start_ms
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
"""Starts of each side in a round; the round's value is their median."""

BARE_RATIO = 1.5
"""The agent's time to GetInfo is at most this many times that of a bare Python process."""

_Times = tuple[float, float, float]
"""Milliseconds: GetInfo, slice, stop."""


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B10."""
    _, devices = _life(lab, Side(lab, Ours(lab)))  # fills the page cache
    bare_start_ms(lab)
    ours: list[_Times] = []
    peer: list[_Times] = []
    bare: list[float] = []
    for number in range(rounds):
        lab.say(f"B10 round {number + 1} of {rounds}")
        lives, floors = [], []
        for _ in range(STARTS):  # in turn, so that both see the same machine
            lives.append(_life(lab, Side(lab, Ours(lab)))[0])
            floors.append(bare_start_ms(lab))
        ours.append(_medians(lives))
        bare.append(median(floors))
        peer.append(_medians([_life(lab, Side(lab, Peer(lab, devices)))[0] for _ in range(STARTS)]))
    return figures(ours, peer, bare)


def figures(ours: Sequence[_Times], peer: Sequence[_Times], bare: Sequence[float]) -> list[Figure]:
    """GetInfo beside the bare process first, then each part beside the Go peer."""
    answered = Figure(
        benchmark="B10",
        name="exec to GetInfo answered, beside a bare Python process",
        unit="ms",
        ours=[times[0] for times in ours],
        peer=bare,
        targets=(Target(ratio=BARE_RATIO),),
    )
    parts: tuple[tuple[str, tuple[Target, ...]], ...] = (
        ("exec to GetInfo answered", ()),
        ("exec to slice at a watcher", (Target(limit=1000.0),)),
        ("SIGTERM to exit", (Target(limit=1000.0),)),
    )
    return [answered] + [
        Figure(
            benchmark="B10",
            name=name,
            unit="ms",
            ours=[times[part] for times in ours],
            peer=[times[part] for times in peer],
            targets=targets,
        )
        for part, (name, targets) in enumerate(parts)
    ]


def _life(lab: Lab, side: Side) -> tuple[_Times, list[Json]]:
    with side, lab.watch_slices(side.node) as watcher:
        started = start(side, watcher)
        devices = published(lab, side)
        return (started.answered_ms, started.published_ms, side.driver.stop() * 1000), devices


def _medians(lives: Sequence[_Times]) -> _Times:
    first, second, third = (median([life[part] for life in lives]) for part in range(3))
    return first, second, third
