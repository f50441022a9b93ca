from collections.abc import Iterator

import pytest

from support.leaks import no_leaks
from support.worlds.plugin_world import World, world

__all__ = ["no_leaks", "node"]


@pytest.fixture
def node() -> Iterator[World]:
    """A node with four healthy GPUs and a driver root."""
    with world() as built:
        yield built
