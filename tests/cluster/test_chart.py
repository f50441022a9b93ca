"""The agent installed by its chart on a real cluster, as a user installs it."""

import time

import pytest

from cluster.cluster import Cluster
from cluster.release import Release, restarts

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]


@pytest.mark.parametrize("host_network", [False, True], ids=["pod-network", "host-network"])
def test_an_installed_agent_is_ready_has_published_and_stays(
    cluster: Cluster, release: Release, host_network: bool
) -> None:
    release.install(hostNetwork=host_network)
    pod = release.wait_until_ready()
    cluster.wait("its GPUs are published", release.has_published, seconds=10)
    time.sleep(5 if host_network else 30)
    later = release.wait_until_ready()
    assert later["metadata"]["uid"] == pod["metadata"]["uid"]
    assert restarts(later) == restarts(pod) == 0
