"""A folder with the layout of an installed NVIDIA driver: libraries, one program, device nodes.

All are small files, which the agent only has to find. A device node that is no character device is accepted because the
agent runs with a scripted NVML.
"""

from pathlib import Path

_LIBRARIES = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
_VERSIONED_LIBRARIES = ("libnvidia-gpucomp",)
_CONTROL_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")


def make_driver_root(root: Path, *, gpus: int, version: str) -> None:
    """Creates the folder for GPUs with minors from 0 on. It must not exist yet."""
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for stem in (*_LIBRARIES, *_VERSIONED_LIBRARIES):
        (libraries / f"{stem}.so.{version}").write_text("scripted\n", encoding="ascii")
    for stem in _LIBRARIES:
        (libraries / f"{stem}.so.1").symlink_to(f"{stem}.so.{version}")
    programs = root / "usr" / "bin"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\n", encoding="ascii")
    (programs / "nvidia-smi").chmod(0o755)
    nodes = root / "dev"
    nodes.mkdir()
    for name in (*_CONTROL_NODES, *(f"nvidia{minor}" for minor in range(gpus))):
        (nodes / name).touch()
