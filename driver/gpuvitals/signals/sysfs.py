"""The PCI bus as sysfs shows it. Reading it needs no driver, so it works while the driver hangs.

Source: Linux Documentation/ABI/testing/sysfs-bus-pci. Unverified on hardware: the inode number of a module's directory.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import ConfigSpace, MonitorReport, MonitorState, PresenceReport, Source
from gpuvitals.signals.nvml.decode import Placement
from gpuvitals.signals.source import SignalSink
from gpuvitals.stoppable_thread import StoppableThread

_NVIDIA = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")
_MAX_VERSION = 32
_TOTAL_FATAL = "TOTAL_ERR_FATAL"
_ALL_ONES = b"\xff\xff\xff\xff"


class SysfsTree:
    """Reads below one root: `/sys`, or a directory that replaces it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "bus" / "pci" / "devices"

    def placement(self, bus_id: PciBusId) -> Placement:
        """NUMA node and PCIe root of a device, each empty if unknown."""
        device = self.devices / bus_id
        parts = device.resolve().parts
        root = next((part for part in parts if part.startswith("pci") and ":" in part), "")
        text = _text(device / "numa_node")
        # The kernel writes -1 on machines without NUMA.
        node = int(text) if text.isascii() and text.isdigit() else None
        return Placement(numa_node=node, pcie_root=root)

    def config_space(self, bus_id: PciBusId) -> ConfigSpace | None:
        """The state of a device's config space; None if the bus has no such device.

        A dangling link is a device on a partly mounted bus, and UNREADABLE.
        """
        device = self.devices / bus_id
        try:
            with (device / "config").open("rb") as file:
                start = file.read(4)
        except OSError:
            return ConfigSpace.UNREADABLE if _is_listed(device) else None
        if len(start) < 4:
            return ConfigSpace.UNREADABLE
        return ConfigSpace.ALL_ONES if start == _ALL_ONES else ConfigSpace.ANSWERS

    def driver_gpus(self) -> frozenset[PciBusId]:
        """The GPUs that are bound to NVIDIA's driver. Raises OSError if the bus can't be listed."""
        return frozenset(bus_id for bus_id, driver in self._gpus().items() if driver == "nvidia")

    def expected_gpus(self) -> frozenset[PciBusId]:
        """The GPUs that are bound to NVIDIA's driver or to none, as after a failed probe. Raises OSError.

        A GPU that is bound to another driver, such as vfio-pci for a virtual machine, is not expected.
        """
        return frozenset(bus_id for bus_id, driver in self._gpus().items() if driver in ("nvidia", ""))

    def has_gpu(self) -> bool:
        """Whether the bus shows an expected GPU; False if the bus can't be listed."""
        try:
            return bool(self.expected_gpus())
        except OSError:  # SysfsSource reports the unreadable bus
            return False

    def fatal_errors(self, bus_id: PciBusId) -> int | None:
        """The kernel's count of fatal errors (AER) of a device; None if the kernel keeps no count.

        The last line of the file is the sum: `TOTAL_ERR_FATAL 3`. Source: Linux Documentation/ABI/testing/
        sysfs-bus-pci-devices-aer_stats.
        """
        for line in _text(self.devices / bus_id / "aer_dev_fatal").splitlines():
            name, _, count = line.partition(" ")
            if name == _TOTAL_FATAL and count.isascii() and count.isdigit():
                return int(count)
        return None

    def _gpus(self) -> dict[PciBusId, str]:
        """The driver of each GPU; the empty string for a GPU without driver."""
        found = {}
        for name in os.listdir(self.devices):
            device = self.devices / name
            is_gpu = _text(device / "class").startswith(_DISPLAY_CLASSES)
            if is_gpu and _text(device / "vendor") == _NVIDIA:
                bound = device / "driver"
                found[PciBusId(name)] = bound.resolve().name if bound.is_symlink() else ""
        return found

    def module_text(self) -> str:
        """The state of NVIDIA's kernel module in words, for messages: it may be missing, or not match the library."""
        folder = self.root / "module" / "nvidia"
        version = _text(folder / "version")
        if version:
            return f"the kernel has nvidia {version[:_MAX_VERSION]} loaded"
        return "the kernel has nvidia loaded" if folder.is_dir() else "the kernel has no module nvidia loaded"

    def driver_load(self, version: str) -> str:
        """A name for this load of the driver: its version, and the inode number of its module's directory if readable.

        `model.driver_load` compares two such names. The kernel numbers directories upwards, so the number changes
        when the module is unloaded and loaded again.
        """
        try:
            number = (self.root / "module" / "nvidia").stat().st_ino
        except OSError:
            return version
        return f"{version}#{number}"


@dataclass(frozen=True, slots=True)
class _Presence:
    present: bool
    config_space: ConfigSpace
    fatal_errors: int | None


class SysfsSource:
    """A SignalSource over the PCI bus: reads it once a second and reports changes. One thread.

    A device that the bus has never shown is not reported as gone: containers without sysfs and WSL2 show no GPU, and
    NVML still works there. If the bus has never shown any watched GPU, the monitor reports UNREADABLE.
    """

    name = "sysfs"

    def __init__(
        self, tree: SysfsTree, clock: Clock, sink: SignalSink, *, period_seconds: float = 1.0
    ) -> None:
        self._tree = tree
        self._clock = clock
        self._sink = sink
        self._period = period_seconds
        self._watched: frozenset[PciBusId] = frozenset()
        self._reported: dict[PciBusId, _Presence] = {}
        self._state: MonitorState | None = None
        self._thread = StoppableThread(self._run, name=self.name, daemon=False)

    def watch(self, bus_ids: Iterable[PciBusId]) -> None:
        """Replaces the set of watched devices. Any thread."""
        self._watched = frozenset(bus_ids)

    @property
    def state(self) -> MonitorState | None:
        """Whether the bus is readable; None before the first read."""
        return self._state

    def start(self) -> None:
        """Starts reading."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops and joins the thread."""
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        while True:
            self._read_bus()
            if self._thread.stopping.wait(self._period):
                return

    def _read_bus(self) -> None:
        if not self._tree.devices.is_dir():
            # An unreadable bus is not an empty one: no device is reported as gone.
            self._monitor(MonitorState.UNREADABLE, f"{self._tree.devices} is no directory")
            return
        watched = self._watched
        self._reported = {bus_id: known for bus_id, known in self._reported.items() if bus_id in watched}
        found = {bus_id: self._presence(bus_id) for bus_id in sorted(watched)}
        if not self._tree.devices.is_dir():
            # sysfs was unmounted during the read, so a missing entry proves nothing.
            return
        for bus_id, presence in found.items():
            if not presence.present and bus_id not in self._reported:
                continue
            if self._reported.get(bus_id) != presence:
                self._reported[bus_id] = presence
                self._report(bus_id, presence)
        if watched and not self._reported:
            self._monitor(MonitorState.UNREADABLE, f"{self._tree.devices} shows none of this node's GPUs")
        else:
            self._monitor(MonitorState.WATCHING, "")

    def _presence(self, bus_id: PciBusId) -> _Presence:
        space = self._tree.config_space(bus_id)
        fatal_errors = self._tree.fatal_errors(bus_id)
        return _Presence(space is not None, space or ConfigSpace.UNREADABLE, fatal_errors)

    def _report(self, bus_id: PciBusId, presence: _Presence) -> None:
        self._sink.put(
            PresenceReport(
                source=Source.SYSFS,
                seen=self._clock.now(),
                bus_id=bus_id,
                present=presence.present,
                config_space=presence.config_space,
                fatal_errors=presence.fatal_errors,
            )
        )

    def _monitor(self, state: MonitorState, detail: str) -> None:
        if state is not self._state:
            self._state = state
            self._sink.put(
                MonitorReport(source=Source.SYSFS, seen=self._clock.now(), state=state, detail=detail)
            )


def _is_listed(device: Path) -> bool:
    """Whether the directory has an entry of that name. Only ENOENT proves that it has none."""
    try:
        device.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _text(path: Path) -> str:
    """The content of a small file, empty if it can't be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
