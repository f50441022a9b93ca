"""The watches of other drivers and of the Node, against the embedded API server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from gpuvitals.inventory.other_drivers import OtherDrivers
from gpuvitals.kube.nodes import NodeMeta, NodeWatch, NodeWatchSettings
from gpuvitals.kube.other_drivers import OtherDriverSettings, OtherDriverWatch, other_driver_devices
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer, Match
from support.fakes.scripted_server import Answer, scripted
from support.waiting import eventually

DRIVER = "gpu.vitals.internal"
SLICES = "resourceslices.resource.k8s.io"
Json = dict[str, Any]


class World:
    """A server with one node, and the watches of it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.client = server.client("test")
        self.client.create("nodes", {"metadata": {"name": "node-a"}})
        self.transport = connect(ConnectSettings(url=server.url))
        self.changes: list[OtherDrivers | None] = []
        settings = OtherDriverSettings(driver=DRIVER, node="node-a")
        self.watch = OtherDriverWatch(
            settings, self.transport, NodeMetrics("test"), lambda: self.changes.append(self.watch.current)
        )
        self.node = NodeWatch(
            NodeWatchSettings(node="node-a", seconds=0.1),
            self.transport,
            NodeMetrics("test"),
            self,
        )

    def node_changed(self, meta: NodeMeta) -> None:
        self.watch.set_allocatable(meta.allocatable)

    def publish(self, name: str, driver: str, node: str, **attributes: Json) -> None:
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        device = {"name": "gpu-1", "attributes": attributes}
        spec = {"driver": driver, "nodeName": node, "pool": pool, "devices": [device]}
        self.client.create(SLICES, {"metadata": {"name": name}, "spec": spec})

    def wait(self, holds: Callable[[OtherDrivers], bool]) -> None:
        deadline = time.monotonic() + 5
        while self.watch.current is None or not holds(self.watch.current):
            assert time.monotonic() < deadline, self.watch.current
            time.sleep(0.01)


@contextmanager
def looking() -> Iterator[World]:
    with ApiServer() as server:
        world = World(server)
        world.watch.start()
        world.node.start()
        try:
            yield world
        finally:
            world.watch.stop(2.0)
            world.node.stop(2.0)
            world.transport.close()


def test_identities_of_other_drivers_devices_on_this_node_are_seen_and_no_others() -> None:
    with looking() as world:
        world.wait(lambda seen: seen.devices == ())
        world.publish("own", DRIVER, "node-a", uuid={"string": "GPU-1"})
        world.publish("elsewhere", "gpu.nvidia.com", "node-b", uuid={"string": "GPU-1"})
        bus = {"resource.kubernetes.io/pciBusID": {"string": "0000:01:00.0"}}
        world.publish("theirs", "gpu.nvidia.com", "node-a", uuid={"string": "GPU-1"}, cores={"int": 8}, **bus)
        world.wait(lambda seen: bool(seen.devices))
        assert world.watch.current is not None
        (found,) = world.watch.current.devices
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
        world.server.faults.drop_watches(SLICES, abrupt=True)
        world.client.delete(SLICES, "theirs")
        eventually(lambda: fault.hits >= 2, 20)
        assert world.watch.current is not None
        assert world.watch.current.devices
        fault.end()
        world.wait(lambda seen: seen.devices == ())


def test_a_slice_that_can_not_be_read_names_nobody_and_hides_nobody() -> None:
    with looking() as world:
        world.publish("a-odd", "gpu.nvidia.com", "node-a", uuid={"string": "GPU-0"})
        odd = world.client.get(SLICES, "a-odd")
        odd["spec"]["devices"][0]["attributes"]["uuid"] = {"version": "1.0.0"}
        world.client.update(SLICES, odd)
        world.publish("theirs", "gpu.nvidia.com", "node-a", uuid={"string": "GPU-1"})
        world.wait(lambda seen: [entry.uuids for entry in seen.devices] == [{"GPU-1"}])
    for broken in (b'{"spec":3}', b"{}", b'{"spec":{"driver":"e","devices":[3]}}', b"["):
        with pytest.raises(msgspec.DecodeError):
            list(other_driver_devices(broken))
    assert list(other_driver_devices(b'{"spec":{"driver":"e","devices":null}}')) == []


def reads(world: World) -> list[str]:
    """The requests of the watchers, of which each is one of the fleet's size."""
    return [entry.verb for entry in world.server.requests.all() if entry.user_agent.startswith("gpuvitals")]


def test_a_node_at_rest_asks_for_nothing_after_its_watches_have_begun() -> None:
    """Finding R13."""
    with looking() as world:
        world.wait(lambda seen: seen.devices == ())
        eventually(lambda: reads(world).count("watch") == 2)
        world.server.requests.clear()
        status = {"status": {"allocatable": {"nvidia.com/gpu": "8"}}}
        world.client.patch("nodes", ("", "node-a"), status, subresource="status")
        world.publish("theirs", "gpu.nvidia.com", "node-a", uuid={"string": "GPU-1"})
        world.wait(lambda seen: bool(seen.devices) and bool(seen.resources))

        assert reads(world) == []


def test_the_first_lists_come_from_the_servers_cache() -> None:
    """Finding R13."""
    with looking() as world:
        world.wait(lambda seen: seen.devices == ())
        lists = [
            entry.query
            for entry in world.server.requests.select(verb="list")
            if "gpuvitals" in entry.user_agent
        ]

        assert len(lists) == 2
        assert all("resourceVersion=0" in query for query in lists)


def test_a_node_that_may_not_be_watched_is_read_until_it_may() -> None:
    """Finding R13: the right to watch Nodes is not needed."""
    with ApiServer() as server:
        refused = server.faults.fail(403, times=None, match=Match(resource="nodes", verbs=("list", "watch")))
        world = World(server)
        world.watch.start()
        world.node.start()
        try:
            world.wait(lambda seen: seen.devices == ())
            status = {"status": {"allocatable": {"nvidia.com/gpu": "8"}}}
            world.client.patch("nodes", ("", "node-a"), status, subresource="status")
            world.wait(lambda seen: ("nvidia.com/gpu", "8") in seen.resources)
            assert refused.hits > 0
        finally:
            world.watch.stop(2.0)
            world.node.stop(2.0)
            world.transport.close()


class Labels:
    """The label `v` of each reported state of the Node."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def node_changed(self, meta: NodeMeta) -> None:
        self.seen.append(meta.labels["v"])


def test_an_older_state_of_the_node_from_a_server_that_lags_is_not_taken() -> None:
    """Finding K3, for the Node: reads from a cache may go back in time."""
    labels = Labels()

    def node(version: int) -> bytes:
        return b'{"metadata":{"name":"n","uid":"u","resourceVersion":"%d","labels":{"v":"%d"}}}' % (
            version,
            version,
        )

    versions = iter((7, 9, 8, 9, 10))

    def answer(method: str, target: str) -> Answer:
        if "fieldSelector" in target:
            return Answer(status=403)
        return Answer(chunks=(node(next(versions, 10)),))

    with scripted(answer) as script:
        transport = connect(ConnectSettings(url=script.url))
        watch = NodeWatch(
            NodeWatchSettings(node="n", seconds=0.02),
            transport,
            NodeMetrics("test"),
            labels,
        )
        watch.start()
        eventually(lambda: labels.seen[-1:] == ["10"])
        watch.stop(5)
        transport.close()

    assert labels.seen == ["7", "9", "10"]
