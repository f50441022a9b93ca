"""Both wheels of this tree, and the environment of the node image."""

from pathlib import Path

import pytest

from support.environments import AGENT_LOCK, ROOT, Environment, build_wheel, new_environment


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel `gpuvitals`."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("product"))


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel `gpuvitals-sim`."""
    return build_wheel(ROOT / "sim", tmp_path_factory.mktemp("simulation"))


@pytest.fixture(scope="session")
def image_environment(tmp_path_factory: pytest.TempPathFactory, product: Path) -> Environment:
    """The environment of the node image: the packages of the agent's lock and the wheel `gpuvitals`."""
    made = new_environment(tmp_path_factory.mktemp("image") / "gpuvitals", AGENT_LOCK)
    made.install(product)
    return made
