"""B2: writes of a fault, as the API server counts them.

One GPU of eight, then all eight at once fall off the bus, each time on a fresh agent whose eight GPUs are held by claims.
Each GPU makes three kernel lines, an NVML event and a lost handle. The writes are counted for half a minute. The peer gets
one order per device, as from a monitor of its own, and has no later writes.
"""

import time
from collections.abc import Sequence

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import Ours
from benchmarks.harness.pair import published
from benchmarks.harness.peer import Peer
from benchmarks.harness.processes import Json
from benchmarks.harness.side import Side

AFTER_SECONDS = 30.0
_PEER_AFTER_SECONDS = 3.0
_SLICES, _STATUS, _EVENTS = "resourceslices", "resourceclaims/status", "events"

Counts = dict[str, int]


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B2."""
    figures: list[Figure] = []
    for name, gpus, most in (("1 GPU of 8", (0,), 2), ("8 GPUs at once", tuple(range(8)), 2)):
        ours: list[Counts] = []
        peer: list[Counts] = []
        for number in range(rounds):
            lab.say(f"B2 {name}: round {number + 1} of {rounds}")
            counted, devices = _ours(lab, gpus)
            ours.append(counted)
            peer.append(_peer(lab, devices, gpus))
        figures += [
            Figure(
                benchmark="B2",
                name=f"{name}: {label}",
                unit="writes",
                ours=[float(counts.get(resource, 0)) for counts in ours],
                peer=[float(counts.get(resource, 0)) for counts in peer],
                targets=targets,
            )
            for resource, label, targets in (
                (_SLICES, "slice writes", (Target(limit=most),)),
                (_STATUS, "claim status patches", (Target(limit=len(gpus)),)),
                (_EVENTS, "events", ()),
            )
        ]
    return figures


def _ours(lab: Lab, gpus: Sequence[int]) -> tuple[Counts, list[Json]]:
    agent = Ours(lab)
    with Side(lab, agent) as side:
        side.up()
        devices = published(lab, side)
        side.allocate()
        side.kubelet.prepare([[claim] for claim in side.claims])
        time.sleep(3.0)  # the writes for the new claims and their events end before the count begins
        before = lab.writes()
        agent.off_bus(*gpus)
        time.sleep(AFTER_SECONDS)
        return _since(before, lab.writes()), devices


def _peer(lab: Lab, devices: Sequence[Json], gpus: Sequence[int]) -> Counts:
    with Side(lab, Peer(lab, devices)) as side:
        side.up()
        side.allocate()
        before = lab.writes()
        for gpu in gpus:
            side.fault(gpu)
        time.sleep(_PEER_AFTER_SECONDS)
        return _since(before, lab.writes())


def _since(before: Counts, after: Counts) -> Counts:
    return {name: count - before.get(name, 0) for name, count in after.items()}
