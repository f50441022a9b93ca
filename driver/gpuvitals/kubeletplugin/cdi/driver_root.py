"""Finds the parts of the NVIDIA driver that a container needs: libraries, programs and device nodes.

Reads the file system only, so the driver need not be loaded. `driverfiles` finds the installed driver, `device_nodes` its
device nodes. Source: NVIDIA/nvidia-container-toolkit pkg/nvcdi (the list of files).
"""

import logging
import os
import platform
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpuvitals.driverfiles.layouts import Home
from gpuvitals.driverfiles.search import (
    REQUIRED,
    Installation,
    Query,
    Tree,
    binary,
    find_driver,
    library,
    places,
    resolve,
)
from gpuvitals.driverfiles.tree import FileTree, loaded_version, query
from gpuvitals.kubeletplugin.cdi.device_nodes import DeviceNodes
from gpuvitals.kubeletplugin.cdi.spec import ClaimParts, DriverParts, Mount
from gpuvitals.kubeletplugin.directory import Stamp
from gpuvitals.kubeletplugin.held_claim import HeldDevice
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode, RefusedError
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

_OPTIONAL = (
    ("libcudadebugger", "1"),
    ("libnvidia-ptxjitcompiler", "1"),
    ("libnvidia-nvvm", "4"),
    ("libnvidia-nvvm70", "4"),
    ("libnvidia-gpucomp", None),
    ("libnvidia-opencl", "1"),
    ("libnvidia-allocator", "1"),
    ("libnvidia-cfg", "1"),
    ("libnvidia-encode", "1"),
    ("libnvcuvid", "1"),
    ("libnvidia-opticalflow", "1"),
    ("libnvidia-sandboxutils", "1"),
    ("libnvidia-pkcs11", None),
    ("libnvidia-pkcs11-openssl3", None),
)
"""Library and the number in its soname; None if the soname has the driver's version."""
_GRAPHICS = (
    "libnvidia-egl",
    "libnvidia-fbc",
    "libnvidia-gl",
    "libnvidia-gtk",
    "libnvidia-ngx",
    "libnvidia-present",
    "libnvidia-rtcore",
    "libnvidia-tls",
    "libnvidia-vksc-core",
    "libnvidia-wayland",
    "libnvidia-xcb",
)
"""Name prefixes of libraries that only graphics needs. Source: NVIDIA driver README, "Installed Components"."""
_NAMED_AS_ONE = re.compile(r"lib(?:cuda|nvidia-)[\w.+-]*", re.ASCII)
_OF_THE_DRIVER = re.compile(r"(lib(?:cuda|nvidia-)[\w+-]*)\.so\.(\d+(?:\.\d+)+)", re.ASCII)
_BINARIES = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)
_PASSED_OVER, _SEARCHED = "; passed over: ", "; searched "
_SETTLED_NANOSECONDS = 1_000_000_000
_CACHED_SECONDS = 60.0
"""Longest use of a look-up: a driver may be installed in another folder meanwhile."""


class DriverRoot:
    """The driver as installed now; it can be upgraded while the agent runs. Thread safe.

    The mounts are looked up again after a change in any of their directories and after the load of another driver
    version; device nodes are looked up each time.
    """

    def __init__(self, settings: DriverRootSettings) -> None:
        self._settings = settings
        directories = settings.container_library_directories
        self._targets = directories if directories is not None else _default_targets()
        self._cached: _LookUp | None = None
        self._installed = Installation(home=Home(path=""), folders=(), remarks=())
        self._nodes = DeviceNodes(settings)

    def parts(self, devices: tuple[HeldDevice, ...]) -> ClaimParts:
        """All parts for these devices. Raises RefusedError: DriverLibrariesMissing, DeviceNodesMissing, PlatformUnsupported."""
        mounts = self._mounts()
        return ClaimParts(
            common=DriverParts(nodes=self._nodes.control(), mounts=mounts),
            device_nodes=tuple(self._nodes.device(device) for device in devices),
        )

    def refusal(self) -> Refusal | None:
        """The reason why no claim can be prepared now, None if nothing is missing."""
        try:
            self._mounts()
            self._nodes.control()
        except RefusedError as refused:
            return refused.refusal
        return None

    def refusal_of(self, device: HeldDevice) -> Refusal | None:
        """The reason why no claim for this device can be prepared now, None if its device nodes exist."""
        try:
            self._nodes.device(device)
        except RefusedError as refused:
            return refused.refusal
        return None

    def _query(self) -> Query:
        return query(self._settings.proc_root, self._settings.library_directories)

    def _mounts(self) -> tuple[Mount, ...]:
        cached, now = self._cached, time.monotonic()
        if cached is not None and now < cached.until and self._is_valid(cached):
            return cached.mounts
        root, asked = self._settings.driver_root, self._query()
        tree = FileTree(root)
        installed = find_driver(tree, asked)
        if installed != self._installed:
            self._installed = installed
            self._nodes.home = installed.home
            log.info("driver found", extra=keys(path=f"/{installed.home.path}", version=asked.loaded))
        found = self._parts_of(tree, installed, asked)
        stamps = {path: _stamp(path) for path in {str((root / part.below).parent) for part in found}}
        host = self._settings.driver_root_on_host or root
        mounts = tuple(
            Mount(host_path=str(host / part.below), container_path=target)
            for part in found
            for target in part.targets
        )
        # A directory that has just changed may change again within the resolution of its time stamp.
        if _is_settled(stamps.values()):
            until = now + _CACHED_SECONDS
            self._cached = _LookUp(stamps=stamps, loaded=asked.loaded, until=until, mounts=mounts)
        return mounts

    def _is_valid(self, cached: "_LookUp") -> bool:
        if loaded_version(self._settings.proc_root) != cached.loaded:
            return False
        return all(_stamp(path) == stamp for path, stamp in cached.stamps.items())

    def _parts_of(self, tree: FileTree, installed: Installation, asked: Query) -> list["_Part"]:
        """Each library under its soname and its development name, in each container directory: no link hook is needed."""
        parts: list[_Part] = []
        missing: list[str] = []
        for name in (*REQUIRED, *_OPTIONAL):
            stem, number = name
            below = library(tree, installed, name, asked, sound=self._settings.require_character_devices)
            if below is not None:
                soname = PurePosixPath(below).name if number is None else f"{stem}.so.{number}"
                names = (soname, f"{stem}.so")
                targets = tuple(f"{folder}/{own}" for folder in self._targets for own in names)
                parts.append(_Part(below=below, targets=targets))
            elif name in REQUIRED:
                missing.append(f"{stem}.so.{number}")
        if missing:
            raise self._libraries_missing(missing, installed, asked, tree.troubles)
        others = _others(tree, installed, PurePosixPath(parts[0].below))
        parts += [
            _Part(below=real, targets=tuple(f"{folder}/{own}" for folder in self._targets for own in known))
            for real, known in others
        ]
        for each in _BINARIES:
            program = binary(tree, installed, each)
            if program is not None:
                parts.append(_Part(below=program, targets=(f"/usr/bin/{each}",)))
        return parts

    def _libraries_missing(
        self, missing: list[str], installed: Installation, asked: Query, troubles: dict[str, str]
    ) -> RefusedError:
        """The error with all searched places, and the files there that were not usable."""
        root, host = self._settings.driver_root, self._settings.driver_root_on_host
        named = str(root) if host is None or host == root else f"{root} ({host} on the node)"
        passed_over = [*installed.remarks, *(f"{path}: {why}" for path, why in troubles.items())]
        but = f"{_PASSED_OVER}{', '.join(passed_over)}" if passed_over else ""
        return RefusedError(
            RefusalCode.LIBRARIES_MISSING,
            f"driver root {named} has no {' and no '.join(missing)}; install the NVIDIA driver or correct the "
            f"driver root{but}{_SEARCHED}{places(asked)}",
        )


def brief(refusal: Refusal) -> str:
    """The refusal's message without the list of searched places, for API objects."""
    return refusal.message.partition(_SEARCHED)[0].partition(_PASSED_OVER)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A file of the driver: its path below the driver root, and its paths in a container."""

    below: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _LookUp:
    """The mounts found by one look-up, valid until `until` while the stamps and the loaded driver are unchanged."""

    stamps: dict[str, Stamp]
    loaded: str
    until: float
    mounts: tuple[Mount, ...]


def _others(tree: Tree, installed: Installation, cuda: PurePosixPath) -> list[tuple[str, list[str]]]:
    """Unlisted libraries beside libcuda of its version, because a newer driver may have more than the lists name.

    Each with all names under which it is found there, its soname among them.
    """
    own = _OF_THE_DRIVER.fullmatch(cuda.name)
    if own is None:
        return []
    directory = str(cuda.parent)
    listed = {stem for stem, _ in (*REQUIRED, *_OPTIONAL)}
    names: dict[str, set[str]] = {}
    for name in sorted(filter(_NAMED_AS_ONE.fullmatch, tree.names(directory))):
        real = resolve(tree, f"{directory}/{name}", installed.base)
        found = None if real is None else _OF_THE_DRIVER.fullmatch(PurePosixPath(real).name)
        if real is None or found is None or found.group(2) != own.group(2) or not tree.is_file(real):
            continue
        if found.group(1) not in listed and not found.group(1).startswith(_GRAPHICS):
            names.setdefault(real, {PurePosixPath(real).name}).add(name)
    return [(real, sorted(found)) for real, found in sorted(names.items())]


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:  # a missing directory: a change once it exists
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _is_settled(stamps: Iterable[Stamp]) -> bool:
    """Whether the newest change is old enough that a later one gets another time stamp."""
    newest = max((stamp[2] for stamp in stamps if stamp is not None), default=0)
    return abs(time.time_ns() - newest) > _SETTLED_NANOSECONDS


def _default_targets() -> tuple[str, ...]:
    """Directories that the loaders of Debian and Red Hat images search without a cache."""
    multiarch = "aarch64-linux-gnu" if platform.machine() == "aarch64" else "x86_64-linux-gnu"
    return (f"/usr/lib/{multiarch}", "/usr/lib64")
