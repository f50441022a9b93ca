"""The composition root passes its settings on."""

import subprocess
import sys
from pathlib import Path

import pytest

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.inventory.naming import Naming
from gpuvitals.node.early_naming import early_naming
from gpuvitals.wiring.kubelet_sockets import plugin_settings


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


@pytest.mark.parametrize(
    ("imported", "not_loaded"),
    [
        # slow to import, and the kubelet's clock runs
        (
            "gpuvitals.cli.node, gpuvitals.wiring.kubelet_sockets",
            {"kubernetes", "msgspec", "prometheus_client"},
        ),
        # 10 MiB on every node, for scenarios that only the demo reads
        ("gpuvitals.wiring.node", {"pydantic"}),
    ],
)
def test_what_is_slow_or_large_is_not_loaded(imported: str, not_loaded: set[str]) -> None:
    code = f"import {imported}, sys; print(sorted({not_loaded} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_verb_is_imported_alone() -> None:
    code = "import gpuvitals.cli.main as cli, sys\ntry: cli.main(['node', '--help'])\nexcept SystemExit: pass\nprint('gpuvitals.cli.status' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("content", "naming"),
    [
        pytest.param("", Naming(), id="empty"),
        pytest.param("driver: gpu.example.com", Naming(driver="gpu.example.com"), id="other-driver"),
        pytest.param("policy: nonsense", Naming(), id="fault-elsewhere-is-found-later"),
        pytest.param("driver: 5", None, id="no-string"),
        pytest.param("driver: ../up", None, id="no-name"),
        pytest.param("- a list", None, id="no-mapping"),
        pytest.param("a: [", None, id="no-yaml"),
    ],
)
def test_names_are_taken_early_only_where_they_can_be_right(
    tmp_path: Path, content: str, naming: Naming | None
) -> None:
    (tmp_path / "node.yaml").write_text(content, encoding="utf-8")
    assert early_naming(tmp_path / "node.yaml") == naming


def test_a_missing_file_is_reported_by_its_check() -> None:
    assert early_naming(Path("/does/not/exist.yaml")) is None
