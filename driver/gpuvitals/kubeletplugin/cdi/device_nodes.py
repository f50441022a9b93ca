"""Finds the device nodes of a claim: `dev/` of the driver's own root where it has a node, else that of the node.

The GPU Operator's driver container makes its nodes below its own root only; programs on the host may add some of them
to the host's /dev. So each node is looked for by itself. Source: NVIDIA/gpu-operator#1741; NVIDIA MIG User Guide,
"Device Nodes and Capabilities" (capability files).
"""

import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from gpuvitals.driverfiles.layouts import WSL_NODE
from gpuvitals.driverfiles.search import Installation
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
"""Node, its minor number (None: the one in its name), and the names in /proc/devices that have its major number.

Source: NVIDIA/nvidia-modprobe modprobe-utils/nvidia-modprobe-utils.h and .c.
"""


class DeviceNodes:
    """The device nodes of this moment. `installed` gives the driver whose root is looked at first."""

    def __init__(self, settings: DriverRootSettings, installed: Callable[[], Installation]) -> None:
        self._settings = settings
        self._installed = installed
        self._told: dict[str, str] = {}
        self._known_roots: tuple[str, tuple[tuple[str, str], ...]] | None = None

    def control(self) -> tuple[DeviceNode, ...]:
        """The nodes that every container with a GPU gets. Raises RefusedError (DeviceNodesMissing)."""
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
        """The nodes that open the GPU instance and the compute instance."""
        base = f"driver/nvidia/capabilities/gpu{device.minor}/mig/gi{mig.gpu_instance}"
        nodes: list[DeviceNode] = []
        for below in (f"{base}/access", f"{base}/ci{mig.compute_instance}/access"):
            minor = self._capability(device, below)
            advice = self._command(f"-f {self._settings.proc_root / below}")
            nodes.append(self._required(f"dev/nvidia-caps/nvidia-cap{minor}", advice))
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

    def _required(self, below: str, command: str) -> DeviceNode:
        node = self._node(below)
        if node is not None:
            return node
        kind = "character device" if self._settings.require_character_devices else "file"
        looked = " and ".join(os.path.join(inside, below) for inside, _ in self._roots())
        wrong = [
            why for inside, _ in self._roots() if (why := self._wrong(os.path.join(inside, below), below))
        ]
        if self._is_wsl():
            raise RefusedError(
                RefusalCode.PLATFORM_UNSUPPORTED,
                f"/{WSL_NODE} is there and {looked} is not: GPUs of WSL2 have no device nodes of their own, so no "
                "claim can be prepared here; use NVIDIA's container toolkit on such machines",
            )
        problem = "; ".join(wrong) or f"no {kind} at {looked}"
        raise RefusedError(
            RefusalCode.NODES_MISSING,
            f"{problem}; `{command}` on the node makes it; the pod is tried again",
        )

    def _node(self, below: str) -> DeviceNode | None:
        for inside, on_host in self._roots():
            path = os.path.join(inside, below)
            if self._is_node(path) and not self._wrong(path, below):
                host_path = os.path.join(on_host, below)
                if self._told.get(below) != host_path:
                    self._told[below] = host_path
                    log.info("device node found", extra=keys(node=f"/{below}", path=host_path))
                return DeviceNode(path=f"/{below}", host_path=host_path)
        return None

    def _is_node(self, path: str) -> bool:
        try:
            mode = os.lstat(path).st_mode
        except OSError:  # absent, or a parent that can't be entered: no node either way
            return False
        return stat.S_ISCHR(mode) or (not self._settings.require_character_devices and stat.S_ISREG(mode))

    def _wrong(self, path: str, below: str) -> str:
        """What is wrong with the numbers of a node, "" for nothing: a runtime would inject another device by them."""
        try:
            status = os.lstat(path)
        except OSError:  # no node, which is told by itself
            return ""
        if not self._settings.require_character_devices or not stat.S_ISCHR(status.st_mode):
            return ""
        has = os.major(status.st_rdev), os.minor(status.st_rdev)
        wanted = wrong_numbers(below, has, self._majors())
        return f"{path} has the numbers {has[0]}:{has[1]} in place of {wanted}" if wanted else ""

    def _majors(self) -> dict[str, int]:
        """The major numbers of the loaded drivers. One real line: `195 nvidia`."""
        try:
            text = (self._settings.proc_root / "devices").read_text(encoding="ascii", errors="replace")
        except OSError:  # not shown here: only minor numbers are compared
            return {}
        found = re.findall(r"^\s*(\d{1,9}) (nvidia\S*)$", text.partition("\nBlock devices")[0], re.MULTILINE)
        return {name: int(number) for number, name in found}

    def _is_wsl(self) -> bool:
        return any(self._is_node(os.path.join(inside, WSL_NODE)) for inside, _ in self._roots())

    def _roots(self) -> tuple[tuple[str, str], ...]:
        """Folders with a `dev/`, as this process and as the container runtime see them, the driver's own first."""
        home = self._installed().home.path
        if self._known_roots is None or self._known_roots[0] != home:
            settings = self._settings
            host = settings.driver_root_on_host or settings.driver_root
            listed = (
                (str(settings.driver_root / home), str(host / home)),
                (str(settings.driver_root), str(host)),
                (str(settings.dev_root), str(settings.dev_root_on_host or settings.dev_root)),
            )
            # Where two are one folder here, the runtime's name is that which was given for devices.
            self._known_roots = home, tuple(dict(listed).items())
        return self._known_roots[1]

    def _command(self, flags: str) -> str:
        """What makes a node, as it is run on the node."""
        home = self._installed().home
        root = (self._settings.driver_root_on_host or self._settings.driver_root) / home.path
        if root == Path("/"):
            return f"nvidia-modprobe {flags}"
        if home.own_root or not home.path:
            return f"chroot {root} nvidia-modprobe {flags}"
        return f"{root}/bin/nvidia-modprobe {flags}"


def wrong_numbers(below: str, has: tuple[int, int], majors: Mapping[str, int]) -> str:
    """The numbers that the node `below` should have, where `has` are others; "" where they fit or nothing is known.

    A node that was made before the driver was loaded anew can be another driver's: the major number of nvidia-uvm moves.
    """
    for pattern, number, names in _NUMBERS:
        found = pattern.fullmatch(below)
        if found is None:
            continue
        minor = int(found[1]) if number is None else number
        known = {majors[name] for name in names if name in majors}
        if has[1] == minor and (not known or has[0] in known):
            return ""
        return f"{' or '.join(map(str, sorted(known))) or has[0]}:{minor}"
    return ""
