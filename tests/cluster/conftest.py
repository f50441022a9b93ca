"""The clusters of these tests: one a session and release, started when the first test asks for it.

`make cluster-test` sets GPUVITALS_REAL=1; without it everything here is deselected. A program that is not built, a
missing right or package is a failure then, never a skip.
"""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import CLAIMS, CLASS, CLASSES, PODS, SLICES, create, device_class, devices, slices
from cluster.podapi import PodApi
from cluster.release import Release, hardware

RELEASE = os.environ.get("GPUVITALS_CLUSTER") or "1.37"
STOP_SECONDS = 60.0


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster whose server keeps device taints."""
    with Cluster(RELEASE, say=_say) as running:
        create(running.api, CLASSES, device_class())
        yield running


@pytest.fixture(scope="session")
def old_cluster() -> Iterator[Cluster]:
    """A cluster of the oldest release, whose server drops device taints."""
    with Cluster("1.34", say=_say) as running:
        create(running.api, CLASSES, device_class())
        yield running


@pytest.fixture
def start_agent() -> Iterator[Callable[..., Agent]]:
    """Starts an agent with four GPUs and waits for its slice; afterwards pods, claims and slices are gone."""
    with ExitStack() as running:

        def start(cluster: Cluster, *, gpus: int = 4, service_mode: str = "auto", **policy: int) -> Agent:
            agent = Agent(cluster, gpus=gpus, policy=policy, service_mode=service_mode)
            return running.enter_context(published(agent, cluster))

        yield start


@pytest.fixture(scope="module")
def agent(cluster: Cluster) -> Iterator[Agent]:
    """The agent that the tests of a module share; `empty` clears up between them."""
    with published(Agent(cluster, gpus=4, policy={}), cluster) as running:
        yield running


@pytest.fixture
def empty(cluster: Cluster, agent: Agent) -> Iterator[None]:
    """Afterwards no pod and no claim is left, and the agent holds none."""
    yield
    clear(cluster, agent)
    assert (agent.prepared(), agent.cdi_files()) == ([], [])


@pytest.fixture
def release(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Release]:
    """The chart, ready to be installed, with four H100 or what the test's parameter says; nothing stays of it."""
    count, profile = getattr(request, "param", (4, "h100"))
    gpus = hardware(cluster.folder / f"hardware-{uuid.uuid4().hex[:8]}", gpus=count, profile=profile)
    # Helm takes over nothing that it didn't make.
    cluster.api.delete(f"{CLASSES}/{CLASS}")
    with PodApi(cluster.machine.root, cluster.server.url) as api:
        made = Release(cluster, gpus, (api.host, api.port))
        yield made
        made.clear()
    create(cluster.api, CLASSES, device_class())


@contextmanager
def published(agent: Agent, cluster: Cluster) -> Iterator[Agent]:
    """The agent, started, with a slice for every GPU; at the end everything of it is gone."""
    agent.start()
    count = len(agent.gpus.gpus)
    try:
        cluster.wait("its GPUs are published", lambda: len(devices(cluster.api)) == count, seconds=30)
        yield agent
    finally:
        clear(cluster, agent)
        agent.stop()
        for item in slices(cluster.api):
            cluster.api.delete(f"{SLICES}/{item['metadata']['name']}")


def clear(cluster: Cluster, agent: Agent) -> None:
    """Deletes pods and claims, and waits until they are gone."""
    if agent.process.poll() is not None:
        agent.start()  # pods can't end while nobody unprepares their claims
    for path in (PODS, CLAIMS):
        cluster.api.delete(path)
        cluster.wait(f"nothing is left at {path}", partial(_is_empty, cluster, path), seconds=STOP_SECONDS)


def _is_empty(cluster: Cluster, path: str) -> bool:
    return not cluster.api.get(path).body["items"]


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
