"""The servers that have to accept the examples: the embedded one always, a real one with GPUVITALS_REAL=1.

As in tests/contract: a control plane that is not built is a failure then, never a skip.
"""

from collections.abc import Iterator

import pytest

from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.apiserver.api import ApiSettings
from gpuvitals_sim.cel import compile_errors
from support.raw_api import RawApi
from support.realkube.gate import SIM_AND_REAL
from support.realkube.server import RealServer


@pytest.fixture(scope="session")
def accepting() -> Iterator[RealServer]:
    with RealServer() as server:
        yield server


@pytest.fixture(params=SIM_AND_REAL)
def api(request: pytest.FixtureRequest) -> Iterator[RawApi]:
    """A server that refuses what Kubernetes refuses, CEL included."""
    if request.param == "real":
        server: RealServer = request.getfixturevalue("accepting")
        yield server.api
        return
    with ApiServer(settings=ApiSettings(cel_checker=compile_errors)) as sim:
        yield RawApi(sim.url)
