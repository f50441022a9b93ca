"""The composition root hands on what it was told."""

from pathlib import Path

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.inventory.naming import Naming
from gpuvitals.wiring.node import plugin_settings


def test_the_runtime_is_told_the_paths_of_the_node_not_of_the_container() -> None:
    options = NodeOptions(
        node="node-a",
        state_directory=Path("/state"),
        driver_root=Path("/driver-root"),
        driver_root_on_host=Path("/"),
        dev_root=Path("/dev-root"),
        dev_root_on_host=Path("/run/nvidia/driver"),
    )
    seen = plugin_settings(options, Naming()).driver_root

    assert (seen.driver_root, seen.driver_root_on_host) == (Path("/driver-root"), Path("/"))
    assert (seen.dev_root, seen.dev_root_on_host) == (Path("/dev-root"), Path("/run/nvidia/driver"))
