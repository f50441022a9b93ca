"""The node of the cluster is a real one: it gets Ready and runs a pod."""

import pytest

from cluster.cluster import NODE, Cluster
from cluster.objects import PODS, create, is_running, pod

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(180)]


def test_a_ready_node_runs_a_plain_pod_whose_log_the_api_serves(cluster: Cluster) -> None:
    info = cluster.api.get(f"/api/v1/nodes/{NODE}").body["status"]["nodeInfo"]
    assert info["kubeletVersion"].startswith(f"v{cluster.release}.")
    assert info["containerRuntimeVersion"].startswith("containerd://2.")
    create(cluster.api, PODS, pod("plain", command="echo here; exec sleep 3600"))
    cluster.wait("the pod runs", lambda: is_running(cluster.api, "plain"), seconds=30)
    assert cluster.api.get(f"{PODS}/plain/log").body["text"] == "here\n"
    cluster.api.delete(f"{PODS}/plain")
    cluster.wait("the pod is gone", lambda: cluster.api.get(f"{PODS}/plain").status == 404, seconds=30)
