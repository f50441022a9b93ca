"""The clusters that every scheduling case runs on: the simulated one always, a real one with GPUVITALS_REAL=1.

Both live as long as the session; a case has its own world in them.
"""

from collections.abc import Iterator

import pytest

from contract.scheduling.world import World
from gpuvitals_sim.cluster import control_plane
from support.raw_api import RawApi
from support.realkube.gate import SIM_AND_REAL
from support.realkube.scheduler import RealScheduling


@pytest.fixture(scope="session")
def real_scheduling() -> Iterator[RealScheduling]:
    with RealScheduling() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sim_scheduling() -> Iterator[RawApi]:
    with control_plane() as control:
        yield RawApi(control.server.url)
        assert not control.failures


@pytest.fixture(params=SIM_AND_REAL)
def scheduling(request: pytest.FixtureRequest) -> RawApi:
    """A cluster that schedules."""
    if request.param == "sim":
        sim: RawApi = request.getfixturevalue("sim_scheduling")
        return sim
    real: RealScheduling = request.getfixturevalue("real_scheduling")
    real.check()
    return real.api


@pytest.fixture
def bare(scheduling: RawApi, unique: str) -> Iterator[World]:
    """The case's world: a namespace, nothing in it."""
    world = World(name=unique, api=scheduling)
    scheduling.post("/api/v1/namespaces", {"metadata": {"name": unique}})
    try:
        yield world
    finally:
        world.clear()


@pytest.fixture
def world(bare: World) -> World:
    """The case's world with one node and the driver's class."""
    bare.node()
    bare.device_class()
    return bare
