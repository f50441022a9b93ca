"""B5: NodePrepareResources through the driver's own socket, called by one Go program on both sides.

The claim is read from the API server; CDI file and checkpoint are durable before the answer, one after the other for
each claim, on both sides. Lone calls are 0.2 s apart, as pods start; calls of eight claims and of eight callers are not
spaced. A replay is a call for claims that are prepared already. The median of eight callers has no target: eight threads
of one Python interpreter run one at a time, and the peer's run in parallel.
"""

import time
from collections.abc import Sequence

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.kubelet import Call
from benchmarks.harness.lab import Lab
from benchmarks.harness.pair import pair
from benchmarks.harness.side import Side
from benchmarks.harness.stats import percentile

CYCLES = 8
_APART_SECONDS = 0.2
_SETTLED_SECONDS = 0.3
"""Between two steps: the agent writes the status of eight claims after the answer."""

Samples = dict[str, list[float]]
"""Milliseconds by case."""

_LONE, _REPLAY, _UNDONE = "1 claim a call", "1 claim a call, replay", "unprepare, 1 claim a call"
_BATCH, _BATCH_REPLAY = "8 claims a call", "8 claims a call, replay"
_CROWD = "8 callers at once, 1 claim a call"


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B5."""
    ours: list[Samples] = []
    peer: list[Samples] = []
    with pair(lab) as both:
        for side in both.sides:
            side.allocate()
            _cycle(side)  # the first calls of a process fill its caches
        for number in range(rounds):
            lab.say(f"B5 round {number + 1} of {rounds}")
            ours.append(_samples(both.ours))
            peer.append(_samples(both.peer))
    figures = []
    for case, p50, p99 in (
        (_LONE, (Target(ratio=1.3),), (Target(limit=20.0),)),
        (_BATCH, (Target(ratio=1.3),), ()),
        (_CROWD, (), (Target(ratio=3.0),)),
        (_REPLAY, (), ()),
        (_BATCH_REPLAY, (), ()),
        (_UNDONE, (Target(ratio=2.0),), ()),
    ):
        figures += [_figure(case, ours, peer, 0.5, p50), _figure(case, ours, peer, 0.99, p99)]
    return [*figures, _own(ours, _LONE, _REPLAY), _own(ours, _BATCH, _BATCH_REPLAY)]


def _samples(side: Side) -> Samples:
    found: Samples = {}
    for _ in range(CYCLES):
        for case, values in _cycle(side).items():
            found.setdefault(case, []).extend(values)
    return found


def _cycle(side: Side) -> Samples:
    """Every case once, with all eight claims; nothing is prepared before and after."""
    kubelet = side.kubelet
    lone: list[Call] = [[claim] for claim in side.claims]

    timed = {
        _LONE: kubelet.prepare(lone, apart_seconds=_APART_SECONDS),
        _REPLAY: kubelet.prepare(lone, apart_seconds=_APART_SECONDS),
        _UNDONE: kubelet.unprepare(lone, apart_seconds=_APART_SECONDS),
        _BATCH: kubelet.prepare([side.claims]),
    }
    time.sleep(_SETTLED_SECONDS)
    timed[_BATCH_REPLAY] = kubelet.prepare([side.claims])
    kubelet.unprepare([side.claims])
    time.sleep(_SETTLED_SECONDS)
    timed[_CROWD] = kubelet.prepare(lone, callers=len(lone))
    time.sleep(_SETTLED_SECONDS)
    kubelet.unprepare([side.claims])
    time.sleep(_SETTLED_SECONDS)
    return {case: [seconds * 1000 for seconds in each.calls] for case, each in timed.items()}


def _figure(
    case: str, ours: Sequence[Samples], peer: Sequence[Samples], share: float, targets: Sequence[Target]
) -> Figure:
    return Figure(
        benchmark="B5",
        name=f"{case}, p{share * 100:g}",
        unit="ms",
        ours=[percentile(samples[case], share) for samples in ours],
        peer=[percentile(samples[case], share) for samples in peer],
        targets=targets,
    )


def _own(ours: Sequence[Samples], first: str, replay: str) -> Figure:
    """Our replay beside our own first call."""
    return Figure(
        benchmark="B5",
        name=f"{replay}, p50, beside our own first call",
        unit="ms",
        ours=[percentile(samples[replay], 0.5) for samples in ours],
        peer=[percentile(samples[first], 0.5) for samples in ours],
        targets=(Target(ratio=0.5),),
    )
