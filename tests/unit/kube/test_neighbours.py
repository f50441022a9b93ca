"""The look at who else is on the node, against the embedded API server."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpuvitals.inventory.neighbours import Neighbours
from gpuvitals.kube.client import ConnectSettings, connect
from gpuvitals.kube.neighbours import NeighbourSettings, NeighbourWatch, neighbour_devices
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.sim.apiserver import ApiServer, Match

DRIVER = "gpu.vitals.internal"
SLICES = "resourceslices.resource.k8s.io"
Json = dict[str, Any]


class World:
    """A server with one node, and who looks at it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.client = server.client("test")
        self.client.create("nodes", {"metadata": {"name": "node-a"}})
        self.transport = connect(ConnectSettings(url=server.url))
        self.changes: list[Neighbours | None] = []
        settings = NeighbourSettings(driver=DRIVER, node="node-a", seconds=0.1)
        self.watch = NeighbourWatch(
            settings, self.transport, NodeMetrics("test"), lambda: self.changes.append(self.watch.seen)
        )

    def publish(self, name: str, driver: str, node: str, **attributes: Json) -> None:
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        device = {"name": "gpu-1", "attributes": attributes}
        spec = {"driver": driver, "nodeName": node, "pool": pool, "devices": [device]}
        self.client.create(SLICES, {"metadata": {"name": name}, "spec": spec})

    def wait(self, holds: Callable[[Neighbours], bool]) -> None:
        deadline = time.monotonic() + 5
        while self.watch.seen is None or not holds(self.watch.seen):
            assert time.monotonic() < deadline, self.watch.seen
            time.sleep(0.01)


@contextmanager
def looking() -> Iterator[World]:
    with ApiServer() as server:
        world = World(server)
        world.watch.start()
        try:
            yield world
        finally:
            world.watch.stop(2.0)
            world.transport.close()


def test_identities_of_other_drivers_devices_on_this_node_are_seen_and_no_others() -> None:
    with looking() as world:
        world.wait(lambda seen: seen.devices == ())
        world.publish("own", DRIVER, "node-a", uuid={"string": "GPU-1"})
        world.publish("elsewhere", "gpu.nvidia.com", "node-b", uuid={"string": "GPU-1"})
        bus = {"resource.kubernetes.io/pciBusID": {"string": "0000:01:00.0"}}
        world.publish("theirs", "gpu.nvidia.com", "node-a", uuid={"string": "GPU-1"}, cores={"int": 8}, **bus)
        world.wait(lambda seen: bool(seen.devices))
        assert world.watch.seen is not None
        (found,) = world.watch.seen.devices
        assert (found.driver, found.device) == ("gpu.nvidia.com", "gpu-1")
        assert (found.uuids, found.bus_ids) == ({"GPU-1"}, {"0000:01:00.0"})
        world.client.delete(SLICES, "theirs")
        world.wait(lambda seen: seen.devices == ())
        assert len(world.changes) == 3


def test_what_the_node_has_allocatable_is_seen() -> None:
    with looking() as world:
        status = {"status": {"allocatable": {"cpu": "4", "nvidia.com/gpu": "8"}}}
        world.client.patch("nodes", ("", "node-a"), status, subresource="status")
        world.wait(lambda seen: ("nvidia.com/gpu", "8") in seen.resources)


def test_a_look_that_fails_changes_nothing_and_is_made_again() -> None:
    with looking() as world:
        world.publish("theirs", "gpu.nvidia.com", "node-a", uuid={"string": "GPU-1"})
        world.wait(lambda seen: bool(seen.devices))
        fault = world.server.faults.fail(503, match=Match(resource="resourceslices"), times=None)
        world.client.delete(SLICES, "theirs")
        time.sleep(0.5)
        assert fault.hits > 1
        assert world.watch.seen is not None
        assert world.watch.seen.devices
        fault.end()
        world.wait(lambda seen: seen.devices == ())


def test_a_slice_that_can_not_be_read_names_nobody_and_hides_nobody() -> None:
    good = {"spec": {"driver": "b", "devices": [{"name": "d", "attributes": {"uuid": {"string": "GPU-1"}}}]}}
    odd = {
        "spec": {"driver": "c", "devices": [{"name": "d", "attributes": {"uuid": {"string": 7}, "x": "y"}}]}
    }
    body = json.dumps({"items": [{"spec": 3}, {}, odd, good, {"spec": {"driver": "e", "devices": None}}]})
    assert [entry.driver for entry in neighbour_devices(body.encode())] == ["b"]
