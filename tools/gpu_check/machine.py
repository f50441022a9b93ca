"""The checked machine: this one, or a made-up one on the mock library."""

import os
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.driverfiles.place import DriverPlace
from gpuvitals_sim.hardware.scripted_node import ScriptedNode

_BACKEND = "gpuvitals.signals.nvml_worker.pynvml_backend:PynvmlBackend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The flags of `gpuvitals node` and `doctor` that name its folders, and the environment of both."""

    flags: tuple[str, ...]
    environment: dict[str, str]
    is_mock: bool


def this_machine(folder: Path) -> Machine:
    """This machine, with temporary folders in place of the kubelet's and of CDI's."""
    place = DriverPlace(root=Path("/"))
    return Machine(flags=_folders(folder), environment={**os.environ, **place.environment()}, is_mock=False)


def made_machine(folder: Path, library: Path, profile: str) -> Machine:
    """A node of scripted GPUs, read by the real binding through the mock library in a folder."""
    node = ScriptedNode.create(folder / "node", name="node-a", profile=profile, gpus=2)
    flags = (
        *_folders(folder),
        "--nvml-backend",
        _BACKEND,
        "--driver-root",
        str(node.driver_root),
        "--dev-root",
        str(node.driver_root),
        "--proc-root",
        str(node.proc_root),
        "--sysfs-root",
        str(node.sysfs_root),
        "--kernel-log",
        str(node.directory / "kmsg"),
        "--boot-id-file",
        str(node.boot_id_file),
    )
    return Machine(flags=flags, environment={**os.environ, **node.library_environment(library)}, is_mock=True)


def _folders(folder: Path) -> tuple[str, ...]:
    for name in ("plugins", "registry", "cdi"):
        (folder / name).mkdir()
    return (
        "--node-name",
        "node-a",
        "--state-dir",
        str(folder / "plugins" / "gpuvitals"),
        "--registry-dir",
        str(folder / "registry"),
        "--cdi-dir",
        str(folder / "cdi"),
    )
