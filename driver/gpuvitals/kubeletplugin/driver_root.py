"""Finds what a container needs of the NVIDIA driver: libraries, binaries, device nodes. Asks only the file system.

Works with no driver loaded, as far as files go. Links are resolved inside the driver root, never through the root of
this container. Source: NVIDIA/nvidia-container-toolkit pkg/nvcdi (which files a container gets); NVIDIA MIG User
Guide, "Device Nodes and Capabilities" (capability files).
"""

import os
import platform
import re
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpuvitals.kubeletplugin.cdi_spec import ClaimParts, DeviceNode, DriverParts, Mount
from gpuvitals.kubeletplugin.prepared import HeldDevice, MigIds
from gpuvitals.kubeletplugin.refusal import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.settings import DriverRootSettings

_LIBRARY_DIRECTORIES = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib/wsl/lib",
    "usr/lib",
)
_BINARY_DIRECTORIES = ("usr/bin", "usr/sbin", "bin", "sbin", "opt/bin")
_REQUIRED = (("libcuda", "1"), ("libnvidia-ml", "1"))
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
"""Library and the number in its soname; None where the soname carries the driver's version."""
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
"""How libraries begin that only graphics needs. Source: NVIDIA driver README, "Installed Components"."""
_PREFIXES = ("libcuda", "libnvidia-")
_OF_THE_DRIVER = re.compile(r"(lib(?:cuda|nvidia-)[\w+-]*)\.so\.(\d+(?:\.\d+)+)", re.ASCII)
_BINARIES = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)
_CONTROL_NODES = ("dev/nvidiactl", "dev/nvidia-uvm")
_OPTIONAL_NODES = ("dev/nvidia-uvm-tools",)
_MAX_LINKS = 16
_SETTLED_NANOSECONDS = 1_000_000_000


Stamp = tuple[int, int] | None


class DriverRoot:
    """The driver as found at this moment, since it can be upgraded under a running agent.

    The mounts are looked up again whenever a directory that was searched, or that a found file lies in, has changed;
    device nodes are looked at each time. Thread safe.
    """

    def __init__(self, settings: DriverRootSettings) -> None:
        self._settings = settings
        directories = settings.container_library_directories
        self._targets = directories if directories is not None else _default_targets()
        self._known: tuple[dict[str, Stamp], tuple[Mount, ...]] | None = None

    def parts(self, devices: tuple[HeldDevice, ...]) -> ClaimParts:
        """All parts for these devices. Raises RefusedError (DriverLibrariesMissing or DeviceNodesMissing)."""
        mounts = self._mounts()
        nodes = [self._required_node(path) for path in _CONTROL_NODES]
        nodes += [node for path in _OPTIONAL_NODES if (node := self._node(path)) is not None]
        return ClaimParts(
            common=DriverParts(nodes=tuple(nodes), mounts=mounts),
            device_nodes=tuple(self._device_nodes(device) for device in devices),
        )

    def _mounts(self) -> tuple[Mount, ...]:
        known = self._known
        if known is not None and all(_stamp(path) == stamp for path, stamp in known[0].items()):
            return known[1]
        root = self._settings.driver_root
        # stamps first: a change during the look-up is then seen by the next call
        searched = [str(root / each) for each in (*_LIBRARY_DIRECTORIES, *_BINARY_DIRECTORIES)]
        stamps = {path: _stamp(path) for path in searched}
        found = (*self._libraries(), *self._binaries())
        for part in found:
            path = str((root / part.below).parent)
            stamps.setdefault(path, _stamp(path))
        host = self._settings.driver_root_on_host or root
        mounts = tuple(
            Mount(host_path=str(host / part.below), container_path=target)
            for part in found
            for target in part.targets
        )
        if _settled(stamps.values()):
            self._known = (stamps, mounts)
        return mounts

    def _libraries(self) -> list["_Part"]:
        """Each at its soname and its development name, in each container directory, so that no link hook is needed."""
        parts: list[_Part] = []
        missing: list[str] = []
        for stem, number in (*_REQUIRED, *_OPTIONAL):
            below = self._library(stem, number)
            if below is not None:
                soname = PurePosixPath(below).name if number is None else f"{stem}.so.{number}"
                names = (soname, f"{stem}.so")
                targets = tuple(f"{directory}/{name}" for directory in self._targets for name in names)
                parts.append(_Part(below=below, targets=targets))
            elif (stem, number) in _REQUIRED:
                missing.append(f"{stem}.so.{number}")
        if missing:
            raise RefusedError(
                RefusalCode.LIBRARIES_MISSING,
                f"driver root {self._settings.driver_root} has no {' and no '.join(missing)}; "
                "install the NVIDIA driver or correct the driver root",
            )
        return [*parts, *self._others(PurePosixPath(parts[0].below))]

    def _others(self, cuda: PurePosixPath) -> list["_Part"]:
        """Libraries beside libcuda, of its version, that the lists do not know: a newer driver may have more.

        Each stands at its own name and at every name that links to it there, its soname among them.
        """
        own = _OF_THE_DRIVER.fullmatch(cuda.name)
        if own is None:
            return []
        directory = str(cuda.parent)
        listed = {stem for stem, _ in (*_REQUIRED, *_OPTIONAL)}
        names: dict[str, set[str]] = {}
        beside = os.listdir(self._settings.driver_root / directory)
        for name in sorted(name for name in beside if name.startswith(_PREFIXES)):
            real = self._resolve(f"{directory}/{name}")
            found = None if real is None else _OF_THE_DRIVER.fullmatch(PurePosixPath(real).name)
            if real is None or found is None or found.group(2) != own.group(2):
                continue
            if found.group(1) not in listed and not found.group(1).startswith(_GRAPHICS):
                names.setdefault(real, {PurePosixPath(real).name}).add(name)
        return [
            _Part(
                below=real,
                targets=tuple(f"{each}/{name}" for each in self._targets for name in sorted(found)),
            )
            for real, found in sorted(names.items())
        ]

    def _library(self, stem: str, number: str | None) -> str | None:
        """Path below the root of the real library file: by its soname, else the newest file with a version."""
        for directory in _LIBRARY_DIRECTORIES:
            if number is not None:
                found = self._resolve(f"{directory}/{stem}.so.{number}")
                if found is not None:
                    return found
            versioned = self._versioned(directory, stem)
            if versioned:
                return self._resolve(f"{directory}/{versioned[-1]}")
        return None

    def _versioned(self, directory: str, stem: str) -> list[str]:
        pattern = re.compile(re.escape(stem) + r"\.so\.(\d+(?:\.\d+)+)")
        real = self._resolve(directory, directory=True)
        if real is None:
            return []
        names = (name for name in os.listdir(self._settings.driver_root / real) if pattern.fullmatch(name))
        return sorted(names, key=lambda name: [int(part) for part in name.rsplit(".so.", 1)[1].split(".")])

    def _binaries(self) -> list["_Part"]:
        parts: list[_Part] = []
        for name in _BINARIES:
            for directory in _BINARY_DIRECTORIES:
                below = self._resolve(f"{directory}/{name}")
                if below is not None:
                    parts.append(_Part(below=below, targets=(f"/usr/bin/{name}",)))
                    break
        return parts

    def _resolve(self, below: str, *, directory: bool = False) -> str | None:
        """The real path below the driver root, links followed inside it; None where nothing of that kind is there."""
        root = self._settings.driver_root
        pending = [part for part in PurePosixPath(below).parts if part != "/"]
        resolved: list[str] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == "..":
                resolved = resolved[:-1]
                continue
            here = root.joinpath(*resolved, part)
            if not here.is_symlink():
                resolved.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            target = PurePosixPath(os.readlink(here))
            if target.is_absolute():
                resolved = []
            pending = [step for step in target.parts if step != "/"] + pending
        real = root.joinpath(*resolved)
        there = real.is_dir() if directory else real.is_file()
        return str(PurePosixPath(*resolved)) if there else None

    def _device_nodes(self, device: HeldDevice) -> tuple[DeviceNode, ...]:
        nodes = [self._required_node(f"dev/nvidia{device.minor}")]
        if device.mig is not None:
            nodes += self._capability_nodes(device, device.mig)
        return tuple(nodes)

    def _capability_nodes(self, device: HeldDevice, mig: MigIds) -> list[DeviceNode]:
        """The nodes that open the GPU instance and the compute instance."""
        base = f"driver/nvidia/capabilities/gpu{device.minor}/mig/gi{mig.gpu_instance}"
        nodes: list[DeviceNode] = []
        for below in (f"{base}/access", f"{base}/ci{mig.compute_instance}/access"):
            minor = self._capability(device, below)
            advice = f"`nvidia-modprobe -f {self._settings.proc_root / below}` makes it"
            nodes.append(self._required_node(f"dev/nvidia-caps/nvidia-cap{minor}", advice))
        return nodes

    def _capability(self, device: HeldDevice, below: str) -> int:
        """The minor in a capability file. One real line: `DeviceFileMinor: 12`."""
        path = self._settings.proc_root / below
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise RefusedError(
                RefusalCode.NODES_MISSING,
                f"MIG device {device.device}: {path}: {error.strerror}; the instance may be gone",
            ) from error
        found = re.search(r"^DeviceFileMinor:\s*(\d{1,6})$", text, re.MULTILINE)
        if found is None:
            raise RefusedError(
                RefusalCode.NODES_MISSING, f"MIG device {device.device}: {path} names no DeviceFileMinor"
            )
        return int(found.group(1))

    def _required_node(
        self, below: str, advice: str = "load the driver's modules (nvidia, nvidia-uvm)"
    ) -> DeviceNode:
        node = self._node(below)
        if node is None:
            kind = "character device" if self._settings.require_character_devices else "file"
            raise RefusedError(
                RefusalCode.NODES_MISSING,
                f"{self._settings.dev_root / below} is not there as a {kind}; {advice}, and the pod is tried again",
            )
        return node

    def _node(self, below: str) -> DeviceNode | None:
        try:
            mode = os.lstat(os.path.join(self._settings.dev_root, below)).st_mode
        except OSError:  # absent, or a parent that can't be entered: no node either way
            return None
        usable = stat.S_ISCHR(mode) or (not self._settings.require_character_devices and stat.S_ISREG(mode))
        if not usable:
            return None
        root = self._settings.dev_root_on_host or self._settings.dev_root
        return DeviceNode(path=f"/{below}", host_path=os.path.join(root, below))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A file of the driver, below its root, and where a container sees it."""

    below: str
    targets: tuple[str, ...]


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:  # a directory that is not there is searched in vain, until it is
        return None
    return status.st_ino, status.st_mtime_ns


def _settled(stamps: Iterable[Stamp]) -> bool:
    """Whether the newest change is old enough for the clock of the file system to tell it from the next one."""
    newest = max((stamp[1] for stamp in stamps if stamp is not None), default=0)
    return abs(time.time_ns() - newest) > _SETTLED_NANOSECONDS


def _default_targets() -> tuple[str, ...]:
    """Directories that the loader of a Debian and of a Red Hat image searches without any cache."""
    multiarch = "aarch64-linux-gnu" if platform.machine() == "aarch64" else "x86_64-linux-gnu"
    return (f"/usr/lib/{multiarch}", "/usr/lib64")
