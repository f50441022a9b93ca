"""Both sides of a comparison, gpuvitals first: its slices give the peer its devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import Ours
from benchmarks.harness.peer import Peer, devices_of
from benchmarks.harness.processes import Json
from benchmarks.harness.side import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The agent and the peer, both published and registered. `agent` has the methods beyond a Driver's."""

    ours: Side
    agent: Ours
    peer: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """In the order of a round."""
        return self.ours, self.peer


@contextmanager
def pair(lab: Lab, devices: int = 8) -> Iterator[Pair]:
    """Both sides, on a node each, published and registered."""
    agent = Ours(lab, devices)
    with Side(lab, agent) as ours:
        ours.up()
        with Side(lab, Peer(lab, published(lab, ours))) as peer:
            peer.up()
            yield Pair(ours=ours, agent=agent, peer=peer)


def published(lab: Lab, side: Side) -> list[Json]:
    """The published devices of a side, for the other side to publish too."""
    return devices_of(lab.slices(side.node))
