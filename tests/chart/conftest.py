"""Real API servers with the chart installed, one a Kubernetes that the rights must hold on.

What needs a Go-built program runs with GPUVITALS_REAL=1, as in `make cluster-test`, and is deselected without it.
"""

from collections.abc import Iterator

import pytest

from chart.agents import Cluster
from cluster.build import ON_REQUEST, PROGRAMS
from support.realkube.server import RealServer, ServerSettings


def _servers() -> dict[str, ServerSettings]:
    """Every API server that `make cluster` builds unasked."""
    modules = [program.module for program in PROGRAMS if program.name == "kube-apiserver"]
    return {module: ServerSettings(module=module) for module in modules if module not in ON_REQUEST}


@pytest.fixture(scope="session", params=_servers().values(), ids=_servers())
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The chart with its defaults on a server of its own."""
    with RealServer(request.param) as server:
        yield Cluster(server)
