"""The world of these tests: a simulated API server, and one node with the real agent."""

from collections.abc import Iterator

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_node import AgentNode, agent_node, serving


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with serving() as running:
        yield running


@pytest.fixture
def node(server: ApiServer) -> Iterator[AgentNode]:
    with agent_node(server) as built:
        yield built
