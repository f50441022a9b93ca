"""B15: requests of a fleet of 5,000 idle nodes, one prepared claim on each.

Ours and the peer (an informer of its slices and one read of a claim for each preparation, like NVIDIA's driver), one after
the other, counted by the API server for five minutes after two minutes of rest and multiplied by 5,000. The API server's own
requests in the same time are subtracted. The API server counts a watch when it ends, so the page has the open watches with
the renewals that follow from client-go's 5 to 10 minutes per watch. For comparison, by the kubelet's defaults (a lease
renewed every 10 s, a Node status every 5 min) 5,000 kubelets make 500 lease updates and 17 status patches a second. There
is one round, since requests are counted and not timed.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import Ours
from benchmarks.harness.pair import published
from benchmarks.harness.peer import Peer
from benchmarks.harness.processes import Json
from benchmarks.harness.side import Side

NODES = 5_000
SETTLE_SECONDS = 120.0
WINDOW_SECONDS = float(os.environ.get("WINDOW_SECONDS", "300"))
_WATCH_SECONDS = 450.0
_RESOURCES = frozenset({"nodes", "resourceslices", "resourceclaims", "gpuhealthpolicies", "events"})
"""Resources that a driver may request. Leases are left out: neither side has one, and the API server renews its own."""

Counts = dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idle:
    """Requests of one side per second and node, and its open watches at the end."""

    requests: Counts
    open_watches: float

    def rate(self, *verbs: str) -> float:
        """Requests a second of the fleet."""
        return NODES * sum(count for (verb, _), count in self.requests.items() if verb in verbs)


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B15. `rounds` is not used."""
    del rounds
    lab.say("B15: the API server alone")
    alone = _counted(lab)
    lab.say("B15: gpuvitals")
    with Side(lab, Ours(lab)) as side:
        ours, devices = _idle(lab, side, alone)
    lab.say("B15: the peer")
    with Side(lab, Peer(lab, devices)) as side:
        peer, _ = _idle(lab, side, alone)

    def figure(name: str, value: Callable[[_Idle], float], *targets: Target) -> Figure:
        return Figure(
            benchmark="B15", name=name, unit="1/s", ours=[value(ours)], peer=[value(peer)], targets=targets
        )

    return [
        figure("GETs", lambda idle: idle.rate("GET"), Target(limit=40.0)),
        figure("LISTs", lambda idle: idle.rate("LIST"), Target(limit=0.0)),
        figure(
            "writes", lambda idle: idle.rate("POST", "PUT", "PATCH", "APPLY", "DELETE"), Target(limit=0.0)
        ),
        figure("renewals of watches", lambda idle: NODES * idle.open_watches / _WATCH_SECONDS),
    ]


def _idle(lab: Lab, side: Side, alone: Counts) -> tuple[_Idle, list[Json]]:
    before = lab.open_watches(_RESOURCES)
    side.up()
    devices = published(lab, side)
    side.allocate(1)
    side.kubelet.prepare([[claim] for claim in side.claims])
    time.sleep(SETTLE_SECONDS)
    watches = lab.open_watches(_RESOURCES) - before
    counted = _counted(lab)
    requests = {key: max(0.0, rate - alone.get(key, 0.0)) for key, rate in counted.items()}
    return _Idle(requests=requests, open_watches=watches), devices


def _counted(lab: Lab) -> Counts:
    """Requests a second over the window, by verb and resource."""
    before = lab.requests(_RESOURCES)
    time.sleep(WINDOW_SECONDS)
    after = lab.requests(_RESOURCES)
    return {key: (count - before.get(key, 0)) / WINDOW_SECONDS for key, count in after.items()}
