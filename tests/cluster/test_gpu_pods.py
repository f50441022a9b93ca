"""What a user gets of a claim for a GPU, on a real scheduler, kubelet and runtime."""

from collections.abc import Callable

import pytest

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import CLAIMS, DRIVER, PODS, allocated, claim, create, devices, is_running, pod

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(180)]

_LOOK = """
for node in nvidiactl nvidia-uvm nvidia0; do stat -c '%n %F %t:%T' /dev/$node; done
ls /dev | sed -n '/^nvidia[0-9]/p'
cat /usr/lib/x86_64-linux-gnu/libcuda.so.1 /usr/lib64/libnvidia-ml.so.1
echo $NVIDIA_VISIBLE_DEVICES
exec sleep 3600
"""
_SEEN = """/dev/nvidiactl character special file 1:3
/dev/nvidia-uvm character special file 1:3
/dev/nvidia0 character special file 1:3
nvidia0
scripted
scripted
void
"""


def test_a_cel_claim_gets_one_gpu_with_nodes_and_libraries_and_leaves_nothing(
    cluster: Cluster, start_agent: Callable[[Cluster], Agent]
) -> None:
    """The way of a healthy GPU: published, chosen by score, prepared, seen in the container, given back."""
    agent = start_agent(cluster)
    assert list(devices(cluster.api)) == [agent.device(gpu) for gpu in range(4)]
    create(cluster.api, CLAIMS, claim("train"))
    create(cluster.api, PODS, pod("train", command=_LOOK, claims=("train",)))
    cluster.wait("the pod runs", lambda: is_running(cluster.api, "train"), seconds=30)
    assert allocated(cluster.api, "train") == [agent.device(0)]
    seen = cluster.wait(
        "the pod has looked", lambda: cluster.api.get(f"{PODS}/train/log").body.get("text", ""), seconds=10
    )
    assert seen == _SEEN
    uid = cluster.api.get(f"{CLAIMS}/train").body["metadata"]["uid"]
    assert agent.prepared() == [uid]
    assert agent.cdi_files() == [f"k8s.{DRIVER}-claim_{uid}.json"]
    cluster.api.delete(f"{PODS}/train")
    cluster.wait("the pod is gone", lambda: cluster.api.get(f"{PODS}/train").status == 404, seconds=30)
    assert agent.cdi_files() == []
    assert agent.prepared() == []
