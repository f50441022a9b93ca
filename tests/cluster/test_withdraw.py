"""On a server that drops device taints the agent takes a failed GPU out of the slice, without being told to."""

from collections.abc import Callable

import pytest

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import (
    allocated,
    as_written,
    claim_condition,
    devices,
    is_running,
    start_gpu_pod,
    taints,
)

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(180)]


def test_on_1_34_a_failed_gpu_leaves_the_slice_and_its_siblings_stay(
    old_cluster: Cluster, start_agent: Callable[[Cluster], Agent]
) -> None:
    agent = start_agent(old_cluster)
    api, failed = old_cluster.api, agent.device(0)
    start_gpu_pod(api, "train")
    old_cluster.wait("the pod runs", lambda: is_running(api, "train"), seconds=30)
    assert allocated(api, "train") == [failed]
    siblings = as_written(api, failed)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    old_cluster.wait("the device is withdrawn", lambda: failed not in devices(api), seconds=2)
    assert as_written(api, failed) == siblings
    assert not any(taints(device) for device in devices(api).values())
    old_cluster.wait(
        "the claim says so", lambda: claim_condition(api, "train") == ("False", "Xid79"), seconds=2
    )
    start_gpu_pod(api, "careful")
    old_cluster.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=30)
    assert allocated(api, "careful") == [agent.device(1)]
    assert is_running(api, "train")
