"""B1: from a fault to its taint at a watcher, 8 devices.

Ours: from one XID line in the kernel log, with the fold, the durable store and the status of the holding claim enabled.
Peer: from the call of the upstream helper that publishes a taint. The devices fail one after the other. When all are out
of service, the kernel log shows the agent a reset (its probation is 0 s, and the number of repairs is not limited), and the
peer is ordered to publish no taint.
"""

import random
import time
from collections.abc import Callable, Sequence

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab, tainted
from benchmarks.harness.pair import pair
from benchmarks.harness.side import Side
from benchmarks.harness.stats import percentile
from benchmarks.harness.watcher import Seen, Watcher

FAULTS = 104
_SEEN_SECONDS = 10.0
_APART_SECONDS = 0.25
"""Between two faults. The agent waits 0.2 s between two writes, so closer faults would share one write."""


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B1."""
    with pair(lab) as both, lab.watch_slices(both.ours.node) as a, lab.watch_slices(both.peer.node) as b:
        both.ours.allocate()
        both.ours.kubelet.prepare([[claim] for claim in both.ours.claims])
        ours: list[list[float]] = []
        peer: list[list[float]] = []
        for number in range(rounds):
            lab.say(f"B1 round {number + 1} of {rounds}")
            ours.append(faults(both.ours, a, FAULTS))
            peer.append(faults(both.peer, b, FAULTS))
    return [
        _figure("p50", ours, peer, share=0.5, targets=(Target(ratio=1.3), Target(limit=25.0))),
        _figure("p99", ours, peer, share=0.99, targets=(Target(ratio=2.0), Target(limit=100.0))),
    ]


def faults(side: Side, watcher: Watcher, count: int) -> list[float]:
    """Milliseconds from each fault to its taint at the watcher."""
    took = []
    for number in range(count):
        index = number % side.driver.count
        device = side.driver.device(index)
        at = side.fault(index)
        seen = watcher.first(f"taint on {device} of {side.node}", is_tainted(device), _SEEN_SECONDS)
        took.append((seen.at - at) / 1e6)
        time.sleep(_APART_SECONDS + random.uniform(0.0, 0.1))
        if index == side.driver.count - 1 or number == count - 1:
            side.heal()
            watcher.drain()
    return took


def is_tainted(device: str) -> Callable[[Seen], bool]:
    """Whether an event shows the taint."""
    return lambda seen: device in tainted(seen.object)


def _figure(
    name: str,
    ours: Sequence[Sequence[float]],
    peer: Sequence[Sequence[float]],
    *,
    share: float,
    targets: Sequence[Target],
) -> Figure:
    return Figure(
        benchmark="B1",
        name=f"fault to taint at a watcher, {name}",
        unit="ms",
        ours=[percentile(values, share) for values in ours],
        peer=[percentile(values, share) for values in peer],
        targets=targets,
    )
