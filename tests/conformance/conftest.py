"""The driver under test. Another driver's repository would give its own here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.driver import Driver, gpuvitals, registered_endpoint


@pytest.fixture
def driver() -> Iterator[Driver]:
    """A driver of its own for tests that stop it; not started."""
    with gpuvitals() as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Driver, Path]]:
    """A driver that runs through the whole module, and its DRA socket."""
    with gpuvitals() as made:
        made.start()
        yield made, registered_endpoint(made)
