"""The PCI bus as the kernel shows it: asked without the driver, so it answers also when the driver hangs.

Source: Linux Documentation/ABI/testing/sysfs-bus-pci. Unverified on hardware: the number of a module's directory.
"""

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import ConfigSpace, MonitorReport, MonitorState, PresenceReport, Source
from gpuvitals.signals.nvml.decode import Placement
from gpuvitals.signals.source import SignalSink

_NVIDIA = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")
_MAX_VERSION = 32
_TOTAL_FATAL = "TOTAL_ERR_FATAL"
_ALL_ONES = b"\xff\xff\xff\xff"


class SysfsTree:
    """Reads below one root: `/sys`, or a tree that stands in for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "bus" / "pci" / "devices"

    def placement(self, bus_id: PciBusId) -> Placement:
        """NUMA node and PCIe root of a device; empty where the tree does not tell."""
        device = self.devices / bus_id
        parts = device.resolve().parts
        root = next((part for part in parts if part.startswith("pci") and ":" in part), "")
        text = _text(device / "numa_node")
        # The kernel writes -1 on machines without NUMA.
        node = int(text) if text.isascii() and text.isdigit() else None
        return Placement(numa_node=node, pcie_root=root)

    def config_space(self, bus_id: PciBusId) -> ConfigSpace | None:
        """What the device's config space says; None where the bus has no such device.

        A link that leads nowhere is a device of a bus that is mounted in part, and stays unreadable.
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
        """The GPUs that are bound to NVIDIA's driver. Raises OSError where the bus can't be listed."""
        return frozenset(bus_id for bus_id, driver in self._gpus().items() if driver == "nvidia")

    def expected_gpus(self) -> frozenset[PciBusId]:
        """The GPUs that are bound to NVIDIA's driver or to none, as where its probe failed. Raises OSError.

        One that is bound to another driver, as to give it to a virtual machine, is not for us to miss.
        """
        return frozenset(bus_id for bus_id, driver in self._gpus().items() if driver in ("nvidia", ""))

    def has_gpu(self) -> bool:
        """Whether the bus shows a GPU that this node may give out; False where the bus can't be listed."""
        try:
            return bool(self.expected_gpus())
        except OSError:  # the source of presence reports tells people of it
            return False

    def fatal_errors(self, bus_id: PciBusId) -> int | None:
        """The kernel's count of fatal errors of a device; None where it keeps none.

        The last line of the file is the sum: `TOTAL_ERR_FATAL 3`. Source: Linux Documentation/ABI/testing/
        sysfs-bus-pci-devices-aer_stats.
        """
        for line in _text(self.devices / bus_id / "aer_dev_fatal").splitlines():
            name, _, count = line.partition(" ")
            if name == _TOTAL_FATAL and count.isascii() and count.isdigit():
                return int(count)
        return None

    def _gpus(self) -> dict[PciBusId, str]:
        """The driver of each GPU, the empty string for none."""
        found = {}
        for name in os.listdir(self.devices):
            device = self.devices / name
            is_gpu = _text(device / "class").startswith(_DISPLAY_CLASSES)
            if is_gpu and _text(device / "vendor") == _NVIDIA:
                bound = device / "driver"
                found[PciBusId(name)] = bound.resolve().name if bound.is_symlink() else ""
        return found

    def module(self) -> str:
        """What the kernel says of NVIDIA's module, for people: the library may not match it, or it may not be loaded."""
        folder = self.root / "module" / "nvidia"
        version = _text(folder / "version")
        if version:
            return f"the kernel has nvidia {version[:_MAX_VERSION]} loaded"
        return "the kernel has nvidia loaded" if folder.is_dir() else "the kernel has no module nvidia loaded"

    def driver_load(self, version: str) -> str:
        """A name for this load of the driver: its version, and the number of its module's directory where that can be read.

        `model.driver_load` compares two of them. The kernel numbers directories upwards, so a module that was unloaded and loaded again has another number.
        """
        try:
            number = (self.root / "module" / "nvidia").stat().st_ino
        except OSError:
            return version
        return f"{version}#{number}"


@dataclass(frozen=True, slots=True)
class _Seen:
    present: bool
    config_space: ConfigSpace
    fatal_errors: int | None


class SysfsSource:
    """A SignalSource over the bus: one look a second, and a report where something changed. One thread.

    A device that the bus never showed is not reported gone: containers without sysfs and WSL2 show no GPU that NVML
    reads well. Where none was ever shown, the monitor is blind.
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
        self._seen: dict[PciBusId, _Seen] = {}
        self._state: MonitorState | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sysfs")

    def watch(self, bus_ids: Iterable[PciBusId]) -> None:
        """Which devices to look at from now on. Any thread."""
        self._watched = frozenset(bus_ids)

    @property
    def state(self) -> MonitorState | None:
        """Whether the bus can be seen; None before the first look."""
        return self._state

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops and joins the thread."""
        self._stop.set()
        self._thread.join(deadline_seconds)

    def _run(self) -> None:
        while True:
            self._look()
            if self._stop.wait(self._period):
                return

    def _look(self) -> None:
        if not self._tree.devices.is_dir():
            # Nothing can be said about any device: an unreadable bus is not an empty one.
            self._monitor(MonitorState.UNREADABLE, f"{self._tree.devices} is no directory")
            return
        watched = self._watched
        self._seen = {bus_id: seen for bus_id, seen in self._seen.items() if bus_id in watched}
        looks = {bus_id: self._look_at(bus_id) for bus_id in sorted(watched)}
        if not self._tree.devices.is_dir():
            # The tree was taken away while it was read: nothing that is missing in it is gone.
            return
        for bus_id, seen in looks.items():
            if not seen.present and bus_id not in self._seen:
                continue
            if self._seen.get(bus_id) != seen:
                self._seen[bus_id] = seen
                self._report(bus_id, seen)
        if watched and not self._seen:
            self._monitor(MonitorState.UNREADABLE, f"{self._tree.devices} shows none of this node's GPUs")
        else:
            self._monitor(MonitorState.WATCHING, "")

    def _look_at(self, bus_id: PciBusId) -> _Seen:
        space = self._tree.config_space(bus_id)
        return _Seen(space is not None, space or ConfigSpace.UNREADABLE, self._tree.fatal_errors(bus_id))

    def _report(self, bus_id: PciBusId, seen: _Seen) -> None:
        self._sink.put(
            PresenceReport(
                source=Source.SYSFS,
                seen=self._clock.now(),
                bus_id=bus_id,
                present=seen.present,
                config_space=seen.config_space,
                fatal_errors=seen.fatal_errors,
            )
        )

    def _monitor(self, state: MonitorState, detail: str) -> None:
        if state is not self._state:
            self._state = state
            self._sink.put(
                MonitorReport(source=Source.SYSFS, seen=self._clock.now(), state=state, detail=detail)
            )


def _is_listed(device: Path) -> bool:
    """Whether the folder has an entry of that name. An error of any other kind is no proof that it has none."""
    try:
        device.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _text(path: Path) -> str:
    """A small file's content, empty where it can't be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
