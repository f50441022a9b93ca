"""B11: time without slices after a foreign deletion, and after the wipe of a starting kubelet.

A starting kubelet ends every connection, deletes all slices of the node, and registers the driver again. The upstream
helper repairs 30 s after the last change that it saw, so two peers wait at the same time, one for each case.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import SLICES, Lab
from benchmarks.harness.pair import pair, published
from benchmarks.harness.peer import Peer
from benchmarks.harness.processes import LabError
from benchmarks.harness.side import Side
from benchmarks.harness.starting import Complete
from benchmarks.harness.watcher import Watcher

BACK_SECONDS = 90.0
_APART_SECONDS = 2.0

_Case = Callable[[Lab, Side, Watcher], float]


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B11."""
    deleted: tuple[list[float], list[float]] = ([], [])
    wiped: tuple[list[float], list[float]] = ([], [])
    with pair(lab) as both, Side(lab, Peer(lab, published(lab, both.ours))) as second:
        second.up()
        for number in range(rounds):
            lab.say(f"B11 round {number + 1} of {rounds}")
            deleted[0].append(_back(lab, both.ours, _deleted))
            wiped[0].append(_back(lab, both.ours, _wiped))
            with ThreadPoolExecutor(2) as waiting:
                first = waiting.submit(_back, lab, both.peer, _deleted)
                other = waiting.submit(_back, lab, second, _wiped)
                deleted[1].append(first.result())
                wiped[1].append(other.result())
    return [_figure("slice deleted to back", *deleted), _figure("kubelet's wipe to back", *wiped)]


def _back(lab: Lab, side: Side, case: _Case) -> float:
    """Milliseconds."""
    time.sleep(_APART_SECONDS)
    with lab.watch_slices(side.node) as watcher:
        watcher.first(f"slices of {side.node}", Complete(side.driver.count), BACK_SECONDS)
        return case(lab, side, watcher)


def _deleted(lab: Lab, side: Side, watcher: Watcher) -> float:
    names = [item["metadata"]["name"] for item in lab.slices(side.node)]
    for name in names:
        answer = lab.server.api.delete(f"{SLICES}/{name}")
        if answer.status != 200:
            raise LabError(f"DELETE of slice {name}: {answer.status} {answer.body}")
    return _until_back(side, watcher)


def _wiped(lab: Lab, side: Side, watcher: Watcher) -> float:
    side.kubelet.forget()
    answer = lab.server.api.delete(SLICES, fieldSelector=f"spec.nodeName={side.node}")
    if answer.status != 200:
        raise LabError(f"DELETE of the slices of {side.node}: {answer.status} {answer.body}")
    side.kubelet.register()
    return _until_back(side, watcher)


def _until_back(side: Side, watcher: Watcher) -> float:
    """Milliseconds from the event of the deletion to that of the last restored slice."""
    gone = watcher.first(f"slices of {side.node} gone", lambda seen: seen.kind == "DELETED", BACK_SECONDS)
    back = watcher.first(f"slices of {side.node} back", Complete(side.driver.count), BACK_SECONDS)
    return (back.at - gone.at) / 1e6


def _figure(name: str, ours: Sequence[float], peer: Sequence[float]) -> Figure:
    targets = (Target(ratio=0.05), Target(limit=1000.0))
    return Figure(benchmark="B11", name=name, unit="ms", ours=ours, peer=peer, targets=targets)
