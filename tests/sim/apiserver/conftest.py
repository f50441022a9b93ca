"""A running embedded API server and a raw client for it."""

from collections.abc import Iterator

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.raw_api import RawApi


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A fresh server; it must have met no bug of its own when the test ends."""
    with ApiServer() as running:
        yield running
        assert running.failures == ()


@pytest.fixture
def raw(server: ApiServer) -> RawApi:
    return RawApi(server.url, timeout_seconds=10)
