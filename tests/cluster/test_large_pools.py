"""Nodes with more devices than a slice holds: slices of 64, and a fault that writes one of them once."""

import time
from collections.abc import Callable

import pytest

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import (
    DRIVER,
    SLICES,
    Json,
    allocated,
    devices,
    is_running,
    slices,
    start_gpu_pod,
    taints,
)
from support.raw_api import WatchStream

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]


@pytest.mark.parametrize("gpus", [65, 128])
def test_a_fault_among_many_devices_is_one_write_of_one_slice(
    cluster: Cluster, start_agent: Callable[..., Agent], gpus: int
) -> None:
    agent = start_agent(cluster, gpus=gpus)
    api, failed = cluster.api, agent.device(gpus - 1)
    cluster.wait("they are healthy", lambda: all(map(_is_healthy, devices(api).values())), seconds=60)
    stored = _by_index(cluster)
    assert [len(item["spec"]["devices"]) for item in stored] == [64, gpus - 64]
    assert {item["spec"]["pool"]["resourceSliceCount"] for item in stored} == {2}
    with api.watch(SLICES, resourceVersion=api.get(SLICES).version) as watch:
        agent.gpus.xid(gpus - 1, 79, "GPU has fallen off the bus.")
        cluster.wait("it is tainted", lambda: taints(devices(api)[failed]), seconds=5)
        time.sleep(3)
        seen = _until(cluster, watch)
    assert [(kind, item["metadata"]["name"]) for kind, item in seen] == [
        ("MODIFIED", stored[1]["metadata"]["name"])
    ]
    first, second = _by_index(cluster)
    assert first["metadata"]["resourceVersion"] == stored[0]["metadata"]["resourceVersion"]
    before, after = stored[1]["spec"]["devices"], second["spec"]["devices"]
    assert [a["name"] for a, b in zip(after, before, strict=True) if a != b] == [failed]
    start_gpu_pod(api, "last", selector=f'device.attributes["{DRIVER}"].minor >= {gpus - 2}')
    cluster.wait("the pod runs", lambda: is_running(api, "last"), seconds=30)
    assert allocated(api, "last") == [agent.device(gpus - 2)]


def _is_healthy(device: Json) -> bool:
    return bool(device["attributes"]["health/state"]["string"] == "Healthy")


def _by_index(cluster: Cluster) -> list[Json]:
    """The slices in the order of their names, which begin with their index."""
    return sorted(slices(cluster.api), key=lambda item: str(item["metadata"]["name"]))


def _until(cluster: Cluster, watch: WatchStream) -> list[tuple[str, Json]]:
    """What the watch has told so far: up to a slice that is made for its end."""
    pool = {"name": "end", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "end.example.com", "nodeName": "end", "pool": pool, "devices": []}
    assert cluster.api.post(SLICES, {"metadata": {"name": "end"}, "spec": spec}).status == 201
    cluster.api.delete(f"{SLICES}/end")
    seen = []
    for kind, item in watch:
        if item["metadata"]["name"] == "end":
            break
        seen.append((kind, item))
    return seen
