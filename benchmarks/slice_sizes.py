"""B7: nodes with 8, 64, 65 and 128 devices: slices, bytes, writes and time to publish them, and one fault's update."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.fault_latency import is_tainted
from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import Ours
from benchmarks.harness.peer import Peer, devices_of
from benchmarks.harness.processes import Json
from benchmarks.harness.side import Side
from benchmarks.harness.starting import start
from benchmarks.harness.stats import median
from benchmarks.harness.watcher import Watcher

SIZES = (8, 64, 65, 128)
FAULTS = 4
_SEEN_SECONDS = 10.0
_APART_SECONDS = 0.5
MOST_IN_A_SLICE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    devices: Sequence[Json]
    slices: int
    largest: int
    kilobytes: float
    writes: int
    seen_ms: float
    fault_ms: float
    fault_writes: float


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B7."""
    return [figure for size in SIZES for figure in _size(lab, size, rounds)]


def _size(lab: Lab, size: int, rounds: int) -> list[Figure]:
    ours: list[_Published] = []
    peer: list[_Published] = []
    for number in range(rounds):
        lab.say(f"B7 {size} devices: round {number + 1} of {rounds}")
        ours.append(_published(lab, Side(lab, Ours(lab, size))))
        peer.append(_published(lab, Side(lab, Peer(lab, ours[-1].devices))))
    figure = partial(_figure, size, ours, peer)
    return [
        figure("slices", "slices", "slices"),
        figure("largest", "most devices in a slice", "devices", targets=(Target(limit=MOST_IN_A_SLICE),)),
        figure("kilobytes", "all slices as stored", "kB"),
        figure("writes", "slice writes to publish", "writes"),
        figure("seen_ms", "exec to all slices at a watcher", "ms", targets=(Target(ratio=2.0),)),
        figure("fault_ms", "one fault to its taint at a watcher, p50", "ms"),
        figure("fault_writes", "one fault, slice writes", "writes", targets=(Target(limit=1),)),
    ]


def _published(lab: Lab, side: Side) -> _Published:
    with side, lab.watch_slices(side.node) as watcher:
        before = _slice_writes(lab)
        started = start(side, watcher)
        time.sleep(_APART_SECONDS)  # a second write of the same slice would be counted
        writes, items = _slice_writes(lab) - before, lab.slices(side.node)
        before = _slice_writes(lab)
        took = [_fault(side, watcher, gpu) for gpu in range(FAULTS)]
        fault_writes = (_slice_writes(lab) - before) / FAULTS
    return _Published(
        devices=devices_of(items),
        slices=len(items),
        largest=max(len(item["spec"]["devices"]) for item in items),
        kilobytes=sum(len(json.dumps(item, separators=(",", ":"))) for item in items) / 1000,
        writes=writes,
        seen_ms=started.published_ms,
        fault_ms=median(took),
        fault_writes=fault_writes,
    )


def _fault(side: Side, watcher: Watcher, gpu: int) -> float:
    """Milliseconds from a fault to its taint at the watcher."""
    device = side.driver.device(gpu)
    at = side.fault(gpu)
    seen = watcher.first(f"taint on {device} of {side.node}", is_tainted(device), _SEEN_SECONDS)
    time.sleep(_APART_SECONDS)
    return (seen.at - at) / 1e6


def _slice_writes(lab: Lab) -> int:
    return lab.writes().get("resourceslices", 0)


def _figure(
    size: int,
    ours: Sequence[_Published],
    peer: Sequence[_Published],
    field: str,
    *shown: str,
    targets: Sequence[Target] = (),
) -> Figure:
    name, unit = shown
    return Figure(
        benchmark="B7",
        name=f"{size} devices: {name}",
        unit=unit,
        ours=[float(getattr(each, field)) for each in ours],
        peer=[float(getattr(each, field)) for each in peer],
        targets=targets,
    )
