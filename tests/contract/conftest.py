"""The servers that every contract case runs on: the embedded one always, a real one with GPUVITALS_REAL=1.

`make cluster-test` sets it; a control plane that is not built is a failure then, never a skip.
"""

import hashlib
from collections.abc import Iterator

import pytest

from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.apiserver.api import ApiSettings
from gpuvitals_sim.cel import compile_errors
from support.raw_api import RawApi
from support.realkube.answers import Server
from support.realkube.gate import SIM_AND_REAL
from support.realkube.server import RealServer, ServerSettings

UNTAINTED = ServerSettings(feature_gates={"DRADeviceTaints": False, "DRADeviceTaintRules": False})


@pytest.fixture(scope="session")
def real_server() -> Iterator[RealServer]:
    with RealServer() as server:
        yield server


@pytest.fixture(scope="session")
def sim_server() -> Iterator[ApiServer]:
    with ApiServer(settings=ApiSettings(cel_checker=compile_errors)) as server:
        yield server


@pytest.fixture(scope="session")
def real_server_without_taints() -> Iterator[RealServer]:
    with RealServer(UNTAINTED) as server:
        yield server


@pytest.fixture(scope="session")
def sim_server_without_taints() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.faults.drop_device_taints()
        yield server


@pytest.fixture(params=SIM_AND_REAL)
def server(request: pytest.FixtureRequest) -> Server:
    """A server as a cluster of today has it."""
    if request.param == "sim":
        sim: ApiServer = request.getfixturevalue("sim_server")
        return Server(name="sim", api=RawApi(sim.url), forget=sim.faults.compact)
    real: RealServer = request.getfixturevalue("real_server")
    return Server(name="real", api=real.api, forget=lambda: _forget(real))


@pytest.fixture(params=SIM_AND_REAL)
def untainted(request: pytest.FixtureRequest) -> RawApi:
    """A server whose gate DRADeviceTaints is off, as on Kubernetes 1.34."""
    if request.param == "sim":
        return RawApi(request.getfixturevalue("sim_server_without_taints").url)
    real: RealServer = request.getfixturevalue("real_server_without_taints")
    return real.api


@pytest.fixture
def api(server: Server) -> RawApi:
    return server.api


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name that no other case uses: the servers live as long as the session."""
    return "c" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]


def _forget(real: RealServer) -> None:
    """An API server restarted over a compacted etcd, without its watch cache."""
    real.compact(real.api.get("/api/v1/namespaces").version)
    real.restart()
