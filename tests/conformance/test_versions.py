"""Older kubelets: fewer services, and no health service if the gate is off."""

import pytest

from conformance.cluster import node_cluster

pytestmark = pytest.mark.timeout(120)

V1, V1BETA1 = "v1.DRAPlugin", "v1beta1.DRAPlugin"
HEALTH_V1, HEALTH_V1ALPHA1 = "v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth"


@pytest.mark.parametrize(
    ("services", "used"),
    [
        pytest.param((V1,), "v1", id="only v1"),
        pytest.param((V1BETA1,), "v1beta1", id="only v1beta1"),
        pytest.param((V1BETA1, V1), "v1", id="both"),
    ],
)
def test_a_pod_lives_and_ends_on_a_kubelet_with_these_services(services: tuple[str, ...], used: str) -> None:
    with node_cluster(dra_services=services) as cluster:
        assert [one.dra_version for one in cluster.kubelet.plugins()] == [used]
        cluster.create("train")
        cluster.running("train")
        container = cluster.container("train")
        assert "/dev/nvidia0" in {node["path"] for node in container.device_nodes}
        cluster.delete("train")
        cluster.nothing_is_left()


@pytest.mark.parametrize(
    ("services", "used"),
    [
        pytest.param((HEALTH_V1, HEALTH_V1ALPHA1), "v1", id="1.37"),
        pytest.param((HEALTH_V1ALPHA1,), "v1alpha1", id="1.34 to 1.36"),
    ],
)
def test_health_comes_over_the_one_service_that_the_kubelet_chose(
    services: tuple[str, ...], used: str
) -> None:
    with node_cluster(health_services=services) as cluster:
        assert [one.health_version for one in cluster.kubelet.plugins()] == [used]
        cluster.create("train")
        cluster.running("train")
        entry = cluster.shows("train", "Healthy")
        assert (
            entry["resourceID"] == f"k8s.gpu.vitals.internal/claim={cluster.uid('train')}-{cluster.device(0)}"
        )
        cluster.gpus.xid(0, 79, "GPU has fallen off the bus.")
        assert "79" in cluster.shows("train", "Unhealthy")["message"]


def test_without_the_gate_the_agent_publishes_and_prepares_all_the_same() -> None:
    with node_cluster(health_services=()) as cluster:
        cluster.create("train")
        cluster.running("train")
        assert {one["health"] for one in cluster.health("train")} == {"Unknown"}
        cluster.kubelet.restart()
        cluster.registered()
        cluster.wait(cluster.slices, "published again")
