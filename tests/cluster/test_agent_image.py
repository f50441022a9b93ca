"""The agent's image runs on a real runtime, with all that it needs and without a shell."""

import pytest

from cluster.agentimage import NAME, agent_image
from cluster.cluster import Cluster
from cluster.objects import PODS, Json, create

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(400)]

_LINE = "NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."


def test_the_image_explains_a_kernel_line_and_has_no_shell(cluster: Cluster) -> None:
    cluster.node.load(agent_image(cluster.say))
    create(cluster.api, PODS, _pod("explain", args=["explain", "--line", _LINE]))
    create(cluster.api, PODS, _pod("shell", command=["sh", "-c", "true"]))
    assert cluster.wait("it has ended", lambda: _ended(cluster, "explain"), seconds=60) == "Completed"
    log = cluster.api.get(f"{PODS}/explain/log").body["text"]
    assert "Xid79" in log
    assert "Unhealthy" in log
    assert cluster.wait("it can't start", lambda: _ended(cluster, "shell"), seconds=60) == "StartError"
    for name in ("explain", "shell"):
        cluster.api.delete(f"{PODS}/{name}")


def _pod(name: str, **container: object) -> Json:
    main = {"name": "main", "image": NAME, "imagePullPolicy": "Never", **container}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
    return {"metadata": {"name": name}, "spec": spec}


def _ended(cluster: Cluster, name: str) -> str:
    """Why the pod's container has ended; empty while it hasn't."""
    status = cluster.api.get(f"{PODS}/{name}").body["status"].get("containerStatuses") or [{"state": {}}]
    return str(status[0]["state"].get("terminated", {}).get("reason", ""))
