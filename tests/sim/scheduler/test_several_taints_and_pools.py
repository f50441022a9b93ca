"""The simulated scheduler with two taints on a device, a broken pool, or constraints in a prioritized list."""

from collections.abc import Iterator
from functools import partial

import pytest

from gpuvitals_sim.apiserver import InProcessClient
from gpuvitals_sim.cluster import control_plane
from gpuvitals_sim.scheduler import Scheduler
from support.dra_objects import (
    CLAIMS,
    CLASSES,
    DRIVER,
    SLICES,
    Json,
    choice,
    claim,
    condition,
    device_class,
    eventually,
    exactly,
    gpu,
    held_devices,
    pod,
    ready_node,
    resource_slice,
)

FIRST = {"key": f"{DRIVER}/unhealthy", "value": "Xid79", "effect": "NoSchedule"}
SECOND = {"key": "example.com/maintenance", "value": "true", "effect": "NoExecute"}


class World:
    """A running scheduler; it has seen all objects before a pod is created."""

    def __init__(self, client: InProcessClient, scheduler: Scheduler) -> None:
        self.client, self._scheduler = client, scheduler

    def known(self, stored: Json) -> None:
        eventually(partial(self._scheduler.knows, stored), "the scheduler has caught up")

    def publish(self, item: Json) -> None:
        self.known(self.client.create(SLICES, item))

    def submit(self, name: str, *requests: Json, constraints: tuple[Json, ...] = ()) -> None:
        self.known(self.client.create(CLAIMS, claim(name, *requests, constraints=constraints)))
        self.client.create("pods", pod(name, name))

    def taken(self, name: str) -> list[str]:
        eventually(lambda: self.client.get("pods", name, "default")["spec"].get("nodeName"), f"{name} bound")
        return held_devices(self.client, name)

    def refused(self, name: str) -> None:
        eventually(
            lambda: (
                condition(self.client.get("pods", name, "default"), "PodScheduled").get("status") == "False"
            ),
            f"{name} refused",
        )


@pytest.fixture
def world() -> Iterator[World]:
    with control_plane(controllers=False) as control:
        client = control.server.client("test")
        world = World(client, control.scheduler)
        world.known(ready_node(client, "node-a"))
        world.known(client.create(CLASSES, device_class()))
        yield world


def test_of_two_taints_both_must_be_tolerated(world: World) -> None:
    world.publish(resource_slice("node-a", gpu("gpu-0", taints=(FIRST, SECOND))))
    one = {"key": FIRST["key"], "operator": "Exists"}
    world.submit("one", exactly("gpu", tolerations=[one]))
    world.refused("one")
    world.submit("both", exactly("gpu", tolerations=[one, {"key": SECOND["key"], "operator": "Exists"}]))
    assert world.taken("both") == ["gpu-0"]


def test_a_tainted_device_leaves_its_siblings_allocatable(world: World) -> None:
    world.publish(resource_slice("node-a", gpu("gpu-0"), gpu("gpu-1", taints=(FIRST,)), gpu("gpu-2")))
    world.submit("pair", exactly("gpu", count=2))
    assert world.taken("pair") == ["gpu-0", "gpu-2"]


def test_an_incomplete_pool_of_another_node_is_no_obstacle(world: World) -> None:
    world.known(ready_node(world.client, "node-b"))
    world.publish(resource_slice("node-b", gpu("gpu-0"), count=2))
    world.publish(resource_slice("node-a", gpu("gpu-1")))
    world.submit("train")
    assert world.taken("train") == ["gpu-1"]


def test_a_prioritized_list_takes_the_next_alternative_if_a_constraint_fails(
    world: World,
) -> None:
    def on(name: str, rack: str, score: int) -> Json:
        return gpu(name, score, rack={"string": rack})

    world.publish(resource_slice("node-a", on("gpu-0", "x", 95), on("gpu-1", "y", 60), on("gpu-2", "x", 60)))
    wanted = {
        "name": "second",
        "firstAvailable": [
            choice("other", 'device.attributes["gpu.vitals.internal"].rack == "y"'),
            choice("same", 'device.attributes["health"].score <= 60'),
        ],
    }
    world.submit(
        "pair",
        exactly("first", 'device.attributes["health"].score > 90'),
        wanted,
        constraints=({"matchAttribute": f"{DRIVER}/rack"},),
    )
    assert world.taken("pair") == ["gpu-0", "gpu-2"]
