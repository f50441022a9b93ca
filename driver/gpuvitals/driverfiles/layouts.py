"""Table of the folders in which platforms install the NVIDIA driver; docs/guides/platforms.md has the sources.

A home is a folder with one installation of the driver. All homes are searched in the same subfolders.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A folder below the driver root, "" for the root itself.

    With `own_root`, absolute links inside it start at this folder, as in a driver container's root file system.
    `directories`, if any, are searched instead of LIBRARY_DIRECTORIES.
    """

    path: str
    own_root: bool = False
    directories: tuple[str, ...] = ()


HOMES = (
    Home(path="run/nvidia/driver", own_root=True),
    Home(path=""),
    Home(path="home/kubernetes/bin/nvidia"),
    Home(path="opt/nvidia/current"),
    Home(path="opt/nvidia"),
    Home(path="var/lib/nvidia"),
    Home(path="x86_64-bottlerocket-linux-gnu/sys-root"),
    Home(path="aarch64-bottlerocket-linux-gnu/sys-root"),
)
"""In order of preference, for installations that are otherwise equal.

The GPU Operator's driver container comes first, because its root is mounted only while it runs. Then follow the node's
own files, GKE, Flatcar, GKE with Ubuntu, Container-Optimized OS and Bottlerocket.
"""

LIBRARY_DIRECTORIES = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib/wsl/lib",
    "usr/lib",
    "lib",
    "usr/local/lib64",
    "usr/local/lib",
    "usr/local/glibc/usr/lib",
    "usr/local/glibc/lib64",
    "usr/local/glibc/lib",
    "usr/local/nvidia/lib64",
    "run/opengl-driver/lib",
)
"""Talos has its libraries in `usr/local/glibc/lib` or `usr/local/glibc/usr/lib`, from 1.13 on in `usr/local/lib`."""

BRANCHED_DIRECTORIES = (
    "usr/lib/x86_64-linux-gnu/nvidia",
    "usr/lib/aarch64-linux-gnu/nvidia",
    "usr/lib/nvidia",
)
"""Folders with one subfolder per driver branch: Debian's `current` and `tesla-535`, old Bottlerocket's `tesla`."""

FIRST_BRANCH = "current"

BINARY_DIRECTORIES = (
    "usr/bin",
    "usr/sbin",
    "bin",
    "sbin",
    "opt/bin",
    "usr/local/bin",
    "usr/local/nvidia/bin",
    "usr/lib/nvidia/current",
    "usr/libexec/nvidia/tesla/bin",
    "run/opengl-driver/bin",
)

WSL_NODE = "dev/dxg"
"""The only device node of WSL2's GPUs. Source: NVIDIA, CUDA on WSL User Guide; nvidia-container-toolkit, mode wsl."""
