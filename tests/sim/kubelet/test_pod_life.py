"""A pod's whole life in the simulation: API server, controllers, scheduler and kubelet together, over sockets."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals_sim.apiserver import InProcessClient, RequestFacts
from gpuvitals_sim.cluster import control_plane
from gpuvitals_sim.kubelet import Kubelet, KubeletConfig, KubeletTimings
from support.dra_objects import (
    CLAIMS,
    CLASSES,
    DRIVER,
    SLICES,
    Json,
    claim,
    device_class,
    eventually,
    exactly,
    gpu,
    pod,
    resource_slice,
)
from support.fakes.dra_plugin import TinyPlugin

NODE = "node-0"
TEMPLATES = "resourceclaimtemplates.resource.k8s.io"
QUICK = replace(
    KubeletTimings(), registration_tick_seconds=0.05, startup_wipe_seconds=0.05, termination_seconds=0.05
)


@pytest.fixture
def client() -> Iterator[InProcessClient]:
    """A cluster of one node whose plugin is registered and whose slice has two GPUs."""
    with tempfile.TemporaryDirectory(prefix="gv-") as folder, control_plane() as control:
        root, server = Path(folder), control.server
        client = server.client("test")
        client.create(CLASSES, device_class())
        config = KubeletConfig(node_name=NODE, root=root, cdi_dirs=(root / "cdi",), timings=QUICK)
        kubelet = Kubelet(config, server.url)
        plugin = TinyPlugin(root, NODE, root / "cdi")
        kubelet.start()
        try:
            eventually(lambda: plugin.calls.count("health") or None, "registered")
            assert server.requests.wait_for(_is_wipe, timeout_seconds=10), "slices wiped"
            client.create(SLICES, resource_slice(NODE, gpu("gpu-0"), gpu("gpu-1")))
            yield client
        finally:
            kubelet.stop()
            plugin.stop()


def _is_wipe(request: RequestFacts) -> bool:
    """The kubelet looks for its node's slices, to delete them; registration may come before or after it."""
    return request.resource == "resourceslices" and "spec.nodeName" in request.query


def test_a_pod_from_a_template_runs_and_leaves_nothing_behind(client: InProcessClient) -> None:
    template = claim("gpu", exactly("gpu", 'device.attributes["health"].score > 90'))
    client.create(TEMPLATES, {"metadata": template["metadata"], "spec": {"spec": template["spec"]}})
    wanted = pod("train", grace_seconds=1)
    wanted["spec"]["resourceClaims"] = [{"name": "c0", "resourceClaimTemplateName": "gpu"}]
    wanted["spec"]["containers"][0]["resources"]["claims"] = [{"name": "c0"}]
    client.create("pods", wanted)

    def running() -> Json | None:
        found = client.get("pods", "train", "default")
        return found if found["status"].get("phase") == "Running" else None

    seen = eventually(running, "train running")
    assert seen["spec"]["nodeName"] == NODE
    entry = seen["status"]["containerStatuses"][0]["allocatedResourcesStatus"][0]
    assert entry["name"] == "claim:c0"
    assert entry["resources"][0]["resourceID"].startswith(f"{DRIVER}/gpu=")
    client.delete("pods", "train", "default")
    eventually(lambda: client.find("pods", "train", "default") is None or None, "pod gone")
    eventually(lambda: client.list(CLAIMS, "default") == [] or None, "claim gone")


def test_pods_take_turns_on_one_device(client: InProcessClient) -> None:
    """Five pods want all of two GPUs' better one; each gets it when the one before has ended."""
    names = [f"turn-{number}" for number in range(5)]
    for name in names:
        client.create(CLAIMS, claim(name, exactly("gpu", count=2)))
        client.create("pods", pod(name, name, grace_seconds=1))
    for _ in names:
        name = eventually(lambda: _running(client), "one running")
        assert sum(one["status"].get("phase") == "Running" for one in client.list("pods", "default")) == 1
        client.delete("pods", name, "default")
        eventually(lambda gone=name: client.find("pods", gone, "default") is None or None, f"{name} gone")  # type: ignore[misc]  # bound now


def _running(client: InProcessClient) -> str | None:
    pods = client.list("pods", "default")
    return next((one["metadata"]["name"] for one in pods if one["status"].get("phase") == "Running"), None)
