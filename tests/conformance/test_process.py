"""The agent as a process: when it refuses to start, when it ends by itself, and when it is frozen."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.cluster import NodeCluster, node_cluster
from support.dra_objects import DRIVER
from support.worlds.agent_node import serving
from support.worlds.agent_process import AgentProcess, agent

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        yield Path(made)


def log(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8")


def frozen(cluster: NodeCluster, number: int) -> None:
    process = cluster.agent._process
    assert process is not None
    os.kill(process.pid, number)


def test_a_second_process_without_a_pod_uid_refuses_to_start(folder: Path) -> None:
    with serving() as server, agent(folder, server) as first:
        first.register()
        second = AgentProcess(folder, server)
        assert second.process.wait(20) == 1
        assert "is held by another instance" in log(folder)
        assert first.register().name == DRIVER


def test_a_registration_directory_that_is_lost_ends_the_process(folder: Path) -> None:
    with serving() as server, agent(folder, server) as process:
        process.register()
        for path in (folder / "registry").iterdir():
            path.unlink()
        (folder / "registry").rmdir()
        assert process.process.wait(20) == 1
        assert "the kubelet can't reach this plugin" in log(folder)


def test_a_directory_that_is_too_deep_for_a_socket_is_refused_by_name(folder: Path) -> None:
    """Finding P7."""
    deep = folder / ("d" * 90)
    deep.mkdir()
    with serving() as server:
        process = AgentProcess(deep, server)
        assert process.process.wait(20) == 1
    assert "is longer than 107 bytes; shorten the directory" in log(deep)
    assert len(log(deep).splitlines()) == 1


def test_a_get_info_that_times_out_is_asked_again_and_the_plugin_registers() -> None:
    with node_cluster(start=False) as cluster:
        cluster.kubelet.stop()
        cluster.agent.start()
        cluster.wait(lambda: list(cluster.kubelet.config.registry_dir.glob("*-reg.sock")), "socket")
        frozen(cluster, signal.SIGSTOP)
        try:
            cluster.kubelet.start()
            time.sleep(2)
            assert cluster.kubelet.plugins() == ()
        finally:
            frozen(cluster, signal.SIGCONT)
        cluster.registered()
        cluster.published()


def test_a_kubelet_that_refuses_and_one_that_takes_it_need_no_restart_of_the_agent() -> None:
    with node_cluster(start=False, dra_services=("v9.DRAPlugin",)) as cluster:
        cluster.agent.start()
        cluster.event("the kubelet refused the registration")
        assert cluster.slices() == []
        cluster.kubelet.stop()
        cluster.kubelet.config = replace(cluster.kubelet.config, dra_services=("v1.DRAPlugin",))
        cluster.kubelet.start()
        cluster.registered()
        cluster.published()


def test_a_frozen_agent_fails_its_calls_in_time_and_goes_on_when_it_is_thawed() -> None:
    with node_cluster() as cluster:
        frozen(cluster, signal.SIGSTOP)
        try:
            cluster.create("train")
            uid = cluster.uid("train")
            cluster.wait(
                lambda: "DEADLINE_EXCEEDED" in cluster.calls("NodePrepareResources", uid), "deadline"
            )
            assert not cluster.runs("train")
        finally:
            frozen(cluster, signal.SIGCONT)
        cluster.running("train")
        cluster.shows("train", "Healthy")
        cluster.delete("train")
        cluster.nothing_is_left()


def test_a_pod_is_healthy_again_soon_after_a_freeze_longer_than_the_lease() -> None:
    """The kubelet takes a repeated value for no news; without one it looks only at the next sync of the pod."""
    with node_cluster() as cluster:
        timings = replace(
            cluster.kubelet.config.timings, pod_sync_min_seconds=60.0, pod_sync_max_seconds=80.0
        )
        cluster.kubelet.stop()
        cluster.kubelet.config = replace(cluster.kubelet.config, timings=timings)
        cluster.kubelet.start()
        cluster.registered()
        cluster.create("train")
        cluster.running("train")
        cluster.shows("train", "Healthy")
        frozen(cluster, signal.SIGSTOP)
        try:
            time.sleep(16)
            cluster.client.patch("pods", ("default", "train"), {"metadata": {"annotations": {"a": "b"}}})
            cluster.shows("train", "Unknown")
        finally:
            frozen(cluster, signal.SIGCONT)
        began = time.monotonic()
        cluster.shows("train", "Healthy")
        assert time.monotonic() - began < 10
