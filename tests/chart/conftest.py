"""Real API servers with the chart installed, one a Kubernetes that the rights must hold on.

What needs a Go-built program runs with GPUVITALS_REAL=1, as in `make cluster-test`, and is deselected without it.
"""

import os
from collections.abc import Iterator

import pytest

from chart.agents import Cluster
from cluster.build import ON_REQUEST, PROGRAMS
from support.realserver import RealServer, ServerSettings

REAL = os.environ.get("GPUVITALS_REAL") == "1"


def _servers() -> dict[str, ServerSettings]:
    """Every API server that `make cluster` builds unasked."""
    modules = [program.module for program in PROGRAMS if program.name == "kube-apiserver"]
    return {module: ServerSettings(module=module) for module in modules if module not in ON_REQUEST}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without GPUVITALS_REAL=1 what needs Go is deselected: `make test` is Python only."""
    if not REAL:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("needs_go")])
        items[:] = [item for item in items if not item.get_closest_marker("needs_go")]


@pytest.fixture(scope="session", params=_servers().values(), ids=_servers())
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The chart with its defaults on a server of its own."""
    with RealServer(request.param) as server:
        yield Cluster(server)
