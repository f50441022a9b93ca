from collections.abc import Iterator

import pytest

from support.pluginworld import World, world


@pytest.fixture
def node() -> Iterator[World]:
    """A node with four healthy GPUs and a driver root."""
    with world() as built:
        yield built
