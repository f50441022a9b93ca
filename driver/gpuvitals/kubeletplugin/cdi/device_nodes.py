"""Finds the device nodes of a claim, below the driver's own root or in the host's /dev.

The GPU Operator's driver container creates its nodes below its own root only, and programs on the host may add some of
them to the host's /dev. So each device node is searched separately. Source: NVIDIA/gpu-operator#1741; NVIDIA MIG User Guide,
"Device Nodes and Capabilities" (capability files).
"""

import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from gpuvitals.driverfiles.layouts import WSL_NODE, Home
from gpuvitals.kubeletplugin.cdi.spec import DeviceNode
from gpuvitals.kubeletplugin.held_claim import HeldDevice, MigIds
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

_UVM = "dev/nvidia-uvm"
_CONTROL_NODES = ("dev/nvidiactl", _UVM)
_OPTIONAL_NODES = ("dev/nvidia-uvm-tools",)
_NUMBERS = (
    (re.compile(r"dev/nvidia(\d+)"), None, ("nvidia", "nvidia-frontend")),
    (re.compile(r"dev/nvidiactl"), 255, ("nvidiactl", "nvidia-frontend")),
    (re.compile(r"dev/nvidia-uvm"), 0, ("nvidia-uvm",)),
    (re.compile(r"dev/nvidia-uvm-tools"), 1, ("nvidia-uvm",)),
    (re.compile(r"dev/nvidia-caps/nvidia-cap(\d+)"), None, ("nvidia-caps",)),
)
"""Device node, its minor number (None: the number in its name), and the names of its major number in /proc/devices.

Source: NVIDIA/nvidia-modprobe modprobe-utils/nvidia-modprobe-utils.h and .c.
"""


class DeviceNodes:
    """The device nodes as found now. `home` is the driver installation whose root is searched first."""

    def __init__(self, settings: DriverRootSettings) -> None:
        self.home = Home(path="")
        self._settings = settings
        self._logged: dict[str, str] = {}
        self._known_roots: tuple[str, tuple[tuple[str, str], ...]] | None = None

    def control(self) -> tuple[DeviceNode, ...]:
        """The nodes for every container with a GPU. Raises RefusedError (DeviceNodesMissing)."""
        advice = {_UVM: self._command("-u -c0")}
        nodes = [self._required(path, advice.get(path, self._command("-c0"))) for path in _CONTROL_NODES]
        return (*nodes, *(node for path in _OPTIONAL_NODES if (node := self._node(path)) is not None))

    def device(self, device: HeldDevice) -> tuple[DeviceNode, ...]:
        """A device's own nodes. Raises RefusedError (DeviceNodesMissing)."""
        nodes = [self._required(f"dev/nvidia{device.minor}", self._command(f"-c{device.minor}"))]
        if device.mig is not None:
            nodes += self._capability_nodes(device, device.mig)
        return tuple(nodes)

    def _capability_nodes(self, device: HeldDevice, mig: MigIds) -> list[DeviceNode]:
        """The capability nodes of the GPU instance and of the compute instance."""
        base = f"driver/nvidia/capabilities/gpu{device.minor}/mig/gi{mig.gpu_instance}"
        nodes: list[DeviceNode] = []
        for below in (f"{base}/access", f"{base}/ci{mig.compute_instance}/access"):
            minor = self._capability(device, below)
            advice = self._command(f"-f {self._settings.proc_root / below}")
            nodes.append(self._required(f"dev/nvidia-caps/nvidia-cap{minor}", advice))
        return nodes

    def _capability(self, device: HeldDevice, below: str) -> int:
        """The minor number in a capability file. One real line: `DeviceFileMinor: 12`."""
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

    def _required(self, below: str, command: str) -> DeviceNode:
        node = self._node(below)
        if node is not None:
            return node
        kind = "character device" if self._settings.require_character_devices else "file"
        searched = " and ".join(os.path.join(inside, below) for inside, _ in self._roots())
        wrong = [
            why for inside, _ in self._roots() if (why := self._wrong(os.path.join(inside, below), below))
        ]
        if self._is_wsl():
            raise RefusedError(
                RefusalCode.PLATFORM_UNSUPPORTED,
                f"/{WSL_NODE} is there and {searched} is not: GPUs of WSL2 have no device nodes of their own, so no "
                "claim can be prepared here; use NVIDIA's container toolkit on such machines",
            )
        problem = "; ".join(wrong) or f"no {kind} at {searched}"
        raise RefusedError(
            RefusalCode.NODES_MISSING,
            f"{problem}; `{command}` on the node creates it; the kubelet retries",
        )

    def _node(self, below: str) -> DeviceNode | None:
        for inside, on_host in self._roots():
            path = os.path.join(inside, below)
            if self._is_node(path) and not self._wrong(path, below):
                host_path = os.path.join(on_host, below)
                if self._logged.get(below) != host_path:
                    self._logged[below] = host_path
                    log.info("device node found", extra=keys(node=f"/{below}", path=host_path))
                return DeviceNode(path=f"/{below}", host_path=host_path)
        return None

    def _is_node(self, path: str) -> bool:
        try:
            mode = os.lstat(path).st_mode
        except OSError:  # absent, or in a directory that can't be entered
            return False
        return stat.S_ISCHR(mode) or (not self._settings.require_character_devices and stat.S_ISREG(mode))

    def _wrong(self, path: str, below: str) -> str:
        """The error in a node's numbers, "" if both are right. With wrong ones, a runtime would inject another device."""
        try:
            status = os.lstat(path)
        except OSError:  # a missing node is a separate error
            return ""
        if not self._settings.require_character_devices or not stat.S_ISCHR(status.st_mode):
            return ""
        actual = os.major(status.st_rdev), os.minor(status.st_rdev)
        expected = wrong_numbers(below, actual, self._majors())
        return f"{path} has the numbers {actual[0]}:{actual[1]} in place of {expected}" if expected else ""

    def _majors(self) -> dict[str, int]:
        """The major numbers of the loaded drivers. One real line: `195 nvidia`."""
        try:
            text = (self._settings.proc_root / "devices").read_text(encoding="ascii", errors="replace")
        except OSError:  # not mounted here: only minor numbers are compared
            return {}
        found = re.findall(r"^\s*(\d{1,9}) (nvidia\S*)$", text.partition("\nBlock devices")[0], re.MULTILINE)
        return {name: int(number) for number, name in found}

    def _is_wsl(self) -> bool:
        return any(self._is_node(os.path.join(inside, WSL_NODE)) for inside, _ in self._roots())

    def _roots(self) -> tuple[tuple[str, str], ...]:
        """Folders with a `dev/`, as seen by this process and by the container runtime; the driver's own first."""
        home = self.home.path
        if self._known_roots is None or self._known_roots[0] != home:
            settings = self._settings
            host = settings.driver_root_on_host or settings.driver_root
            listed = (
                (str(settings.driver_root / home), str(host / home)),
                (str(settings.driver_root), str(host)),
                (str(settings.dev_root), str(settings.dev_root_on_host or settings.dev_root)),
            )
            # If two of them are the same folder here, the runtime's path is the one configured for devices.
            self._known_roots = home, tuple(dict(listed).items())
        return self._known_roots[1]

    def _command(self, flags: str) -> str:
        """The command that creates a device node, to be run on the node."""
        home = self.home
        root = (self._settings.driver_root_on_host or self._settings.driver_root) / home.path
        if root == Path("/"):
            return f"nvidia-modprobe {flags}"
        if home.own_root or not home.path:
            return f"chroot {root} nvidia-modprobe {flags}"
        return f"{root}/bin/nvidia-modprobe {flags}"


def wrong_numbers(below: str, actual: tuple[int, int], majors: Mapping[str, int]) -> str:
    """The expected `major:minor` of the node `below` if `actual` differs; "" if it is right or nothing is known.

    The node may date from before a driver reload, after which nvidia-uvm can have another major number.
    """
    for pattern, number, names in _NUMBERS:
        found = pattern.fullmatch(below)
        if found is None:
            continue
        minor = int(found[1]) if number is None else number
        known = {majors[name] for name in names if name in majors}
        if actual[1] == minor and (not known or actual[0] in known):
            return ""
        return f"{' or '.join(map(str, sorted(known))) or actual[0]}:{minor}"
    return ""
