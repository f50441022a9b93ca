"""Names of driver loads: whether two of them show a reload."""

from pathlib import Path

import pytest

from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.signal import InventoryReport
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.worlds.nvml_world import running


@pytest.mark.parametrize(
    ("before", "after", "reloaded"),
    [
        pytest.param("", "595.1#7", False, id="first"),
        pytest.param("595.1#7", "595.1#7", False, id="same"),
        pytest.param("595.1#7", "595.1#8", True, id="same version"),
        pytest.param("595.1#7", "600.1#8", True, id="new version"),
        pytest.param("595.1", "600.1", True, id="new version without sysfs"),
        pytest.param("595.1#7", "595.1", False, id="sysfs went away"),
        pytest.param("595.1", "595.1#7", False, id="sysfs came back"),
        pytest.param("595.1#7", "600.1", True, id="new version as sysfs went away"),
    ],
)
def test_a_folder_that_can_not_be_read_is_no_reload(before: str, after: str, reloaded: bool) -> None:
    """Finding N3: faults end with a reload of the driver, so an absent folder must not be taken for one."""
    assert is_reload(before, after) is reloaded


def test_the_fuller_name_is_kept() -> None:
    assert known_load("595.1#7", "595.1") == "595.1#7"
    assert known_load("595.1", "595.1#7") == "595.1#7"
    assert known_load("595.1#7", "600.1") == "600.1"
    assert known_load("595.1#7", "595.11") == "595.11"


def test_the_inventory_keeps_the_name_when_sysfs_goes_away(tmp_path: Path) -> None:
    """Finding N3: a worker that starts anew without sysfs reports the load that was known."""
    node = ScriptedNode.create(tmp_path / "node", name="n", gpus=2)
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        first = world.sink.wait(InventoryReport)
        node.sysfs_root.rename(tmp_path / "away")
        node.hide(1)
        world.monitor.request_poll(None)
        later = world.sink.wait(InventoryReport, lambda entry: len(entry.gpus) == 1)

    assert "#" in first.driver_load
    assert later.driver_load == first.driver_load
