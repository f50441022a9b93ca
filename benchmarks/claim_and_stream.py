"""B12: from a fault on a GPU in use to its claim's condition at a watcher, and to the health message at the kubelet.

No driver in the field writes the claim's condition. The peer does, with the typed client's server-side apply, as the
floor: it publishes the taint, puts the message on the upstream helper's stream and then patches the claim.
"""

import random
import time
from collections.abc import Callable, Sequence

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.pair import pair
from benchmarks.harness.side import Side
from benchmarks.harness.stats import percentile
from benchmarks.harness.watcher import Seen, Watcher

FAULTS = 48
_SEEN_SECONDS = 10.0
_APART_SECONDS = 0.35

_Samples = dict[str, list[float]]
_CLAIM, _STREAM = "fault to claim condition at a watcher", "fault to health message at the kubelet"


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B12."""
    ours: list[_Samples] = []
    peer: list[_Samples] = []
    with pair(lab) as both, lab.watch_claims() as watcher:
        for side in both.sides:
            side.allocate()
            side.kubelet.prepare([[claim] for claim in side.claims])
        for number in range(rounds):
            lab.say(f"B12 round {number + 1} of {rounds}")
            ours.append(_faults(both.ours, watcher))
            peer.append(_faults(both.peer, watcher))
    return [
        _figure(name, ours, peer, share, targets)
        for name in (_CLAIM, _STREAM)
        for share, targets in ((0.5, ()), (0.99, (Target(limit=150.0),)))
    ]


def _faults(side: Side, watcher: Watcher) -> _Samples:
    found: _Samples = {_CLAIM: [], _STREAM: []}
    side.heal()
    for number in range(FAULTS):
        index = number % side.driver.count
        watcher.drain()
        side.kubelet.drain_health()
        at = side.fault(index)
        reported_at = side.kubelet.unhealthy_at(side.driver.device(index), _SEEN_SECONDS)
        name = str(side.claims[index]["name"])
        seen = watcher.first(f"condition of claim {name}", _is_unhealthy(name), _SEEN_SECONDS)
        found[_STREAM].append((reported_at - at) / 1e6)
        found[_CLAIM].append((seen.at - at) / 1e6)
        time.sleep(_APART_SECONDS + random.uniform(0.0, 0.1))
        if index == side.driver.count - 1:
            side.heal()
    return found


def _is_unhealthy(claim: str) -> Callable[[Seen], bool]:
    def holds(seen: Seen) -> bool:
        if seen.object["metadata"]["name"] != claim:
            return False
        devices = (seen.object.get("status") or {}).get("devices") or []
        conditions = [entry for device in devices for entry in device.get("conditions") or []]
        return any(entry["type"] == "Healthy" and entry["status"] == "False" for entry in conditions)

    return holds


def _figure(
    name: str, ours: Sequence[_Samples], peer: Sequence[_Samples], share: float, targets: Sequence[Target]
) -> Figure:
    return Figure(
        benchmark="B12",
        name=f"{name}, p{share * 100:g}",
        unit="ms",
        ours=[percentile(samples[name], share) for samples in ours],
        peer=[percentile(samples[name], share) for samples in peer],
        targets=targets,
    )
