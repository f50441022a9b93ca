"""Checks of the NVIDIA driver: NVML through the agent's worker, identity of each GPU, libraries and device nodes."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.doctor.check import Finding, fail, ok, skipped, warn
from gpuvitals.driverfiles.search import REQUIRED, Installation, Query, candidates, find_driver
from gpuvitals.driverfiles.tree import FileTree, loaded_version, query
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.held_claim import HeldDevice
from gpuvitals.kubeletplugin.outcome import RefusalCode
from gpuvitals.model.gpu import DeviceKind, Gpu
from gpuvitals.model.ids import DeviceName
from gpuvitals.signals.nvml.decode_mig import divided
from gpuvitals.signals.nvml.discovery import Survey, survey
from gpuvitals.signals.nvml.monitor import worker_command
from gpuvitals.signals.nvml.schedule import PollSchedule
from gpuvitals.signals.nvml.worker_client import CallHung, Deadlines, WorkerClient
from gpuvitals.signals.nvml.worker_process import WorkerGone, WorkerLimitError, WorkerSlot
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, BackendEvent, DriverFacts, NvmlFailure
from gpuvitals.signals.sysfs import SysfsTree
from gpuvitals.wiring.kubelet_sockets import driver_place, plugin_settings

NVML_SECONDS = 90.0
"""Deadline of the NVML checks: an open and a few calls that hang, each with two deadlines."""
_DEADLINES = Deadlines(open_seconds=10.0, call_seconds=3.0)
_LIBRARY = "libnvidia-ml"


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlResult:
    """The GPUs that NVML listed. `absent` is the reason why there are none."""

    gpus: tuple[Gpu, ...] = ()
    absent: str = ""


class DriverChecks:
    """The checks of the driver. `nvml` runs first, because the others use its GPUs."""

    def __init__(self, options: NodeOptions, naming: Naming) -> None:
        self._options = options
        self._naming = naming
        self._tree = SysfsTree(options.sysfs_root)
        self.result = NvmlResult(absent="NVML gave no inventory")

    def nvml(self) -> Iterator[Finding]:
        """The library, its version, and each GPU."""
        on_bus, trouble = self._on_bus()
        if trouble:
            yield warn("pci-bus", trouble, "mount the node's /sys: without it a lost GPU is noticed later")
        else:
            yield ok("pci-bus", f"{len(on_bus)} NVIDIA GPUs", gpus=sorted(on_bus))
        environment = {**os.environ, **driver_place(self._options).environment()}
        slot = WorkerSlot(worker_command(self._options.nvml_backend), environment)
        worker = WorkerClient(slot, _DEADLINES, _NoEvents(), threading.Event())
        try:
            driver = worker.open()
            library_path = _loaded_from(slot.worker.pid if slot.worker is not None else 0)
            schedule = PollSchedule(())
            inventory = survey(worker, driver, self._tree, schedule)
        except NvmlFailure as failure:
            yield from self._refused(failure, nothing_there=not on_bus and not trouble)
            return
        except (CallHung, WorkerGone, WorkerLimitError, OSError) as error:
            yield fail(
                "nvml", str(error), "look for XID 119, 120 or a hung nvidia-smi; a reboot may be needed"
            )
            return
        finally:
            slot.close(1.0)
        yield from self._library(driver, library_path)
        yield from self._gpus(inventory, schedule, on_bus)

    def libraries(self) -> Iterator[Finding]:
        """The driver files for containers, searched as Prepare does."""
        name, options = "driver-files", self._options
        tree, search = FileTree(options.driver_root), query(options.proc_root, options.driver_libraries)
        installed = find_driver(tree, search)
        refusal = self._driver_root().refusal()
        if refusal is not None and refusal.code is RefusalCode.LIBRARIES_MISSING:
            if self.result.absent and not self.result.gpus:
                yield skipped(name, f"{self.result.absent}; no driver was found below {options.driver_root}")
            else:
                yield fail(
                    name, refusal.message, "install the driver, or set driver.root and driver.libraryDirs"
                )
            return
        found = [_first(tree, installed, library, search) for library in REQUIRED]
        loaded = loaded_version(options.proc_root)
        text = f"{', '.join(found)} below {options.driver_root}; kernel module {loaded or 'not shown'}"
        yield ok(name, text, kernel_module=loaded)

    def device_nodes(self) -> Iterator[Finding]:
        """The device nodes of each GPU, searched as Prepare does."""
        name, root = "device-nodes", self._driver_root()
        refusal = root.refusal()
        if refusal is not None and refusal.code is RefusalCode.LIBRARIES_MISSING:
            yield skipped(name, "the driver's files were not found")
            return
        if refusal is not None:
            yield fail(name, refusal.message, "run the named command on the node")
            return
        devices = [
            _held(gpu) for gpu in self.result.gpus if gpu.kind is DeviceKind.GPU and gpu.minor is not None
        ]
        lacking = [(device, root.refusal_of(device)) for device in devices]
        for device, refusal in lacking:
            if refusal is not None:
                yield fail(name, f"{device.device}: {refusal.message}", "run the named command on the node")
        if all(refusal is None for _, refusal in lacking):
            yield ok(name, f"nvidiactl, nvidia-uvm and the nodes of {len(devices)} GPUs exist")

    def _refused(self, failure: NvmlFailure, *, nothing_there: bool) -> Iterator[Finding]:
        self.result = NvmlResult(absent=f"NVML does not answer: {failure}")
        if nothing_there:
            self.result = NvmlResult(absent="this machine shows no NVIDIA GPU")
            yield skipped("nvml", f"{self.result.absent}, and NVML does not answer")
        elif failure.code in DRIVER_CODES:
            yield fail(
                "nvml",
                f"{failure}; {self._tree.module_text()}",
                "install and load the NVIDIA driver, or set driver.root to its root",
            )
        else:
            yield fail("nvml", str(failure), "read the kernel log for NVRM lines")

    def _library(self, driver: DriverFacts, library_path: str) -> Iterator[Finding]:
        text = f"{library_path or 'a scripted backend'}, driver {driver.driver_version}, CUDA {driver.cuda_driver_version}"
        facts: dict[str, object] = {"library": library_path, "driver_version": driver.driver_version}
        loaded = loaded_version(self._options.proc_root)
        if loaded and loaded != driver.driver_version:
            yield warn(
                "nvml",
                f"{text}; the kernel module is {loaded}",
                "reload the driver or reboot: library and module differ",
                **facts,
            )
        else:
            yield ok("nvml", text, **facts)

    def _gpus(self, inventory: Survey, schedule: PollSchedule, on_bus: frozenset[str]) -> Iterator[Finding]:
        self.result = NvmlResult(gpus=inventory.gpus)
        for gpu in inventory.gpus:
            instances = ""
            if (facts := inventory.divisions.get(gpu.uuid)) is not None and facts.enabled:
                instances = f", MIG on with {len(divided(gpu, facts)[1])} instances"
            yield ok(
                f"gpu {gpu.bus_id}",
                f"{gpu.product_name}, {gpu.uuid}, minor {gpu.minor}, {gpu.memory_bytes >> 30} GiB{instances}",
                uuid=gpu.uuid,
                product=gpu.product_name,
            )
        for index, reason in sorted(schedule.unidentified.items()):
            yield fail(
                f"gpu index {index}", reason, "read the kernel log for NVRM lines; a reset may be needed"
            )
        for bus_id in sorted(on_bus - {gpu.bus_id for gpu in inventory.gpus}):
            yield fail(
                f"gpu {bus_id}",
                "on the PCI bus, and the driver does not enumerate it",
                "look for its bus id in the kernel log; if a reboot does not help, have its seating checked",
            )
        if not inventory.gpus and not on_bus:
            yield warn("gpus", "the driver enumerates no GPU", "nothing, if this node should have none")

    def _on_bus(self) -> tuple[frozenset[str], str]:
        try:
            return frozenset(str(bus_id) for bus_id in self._tree.expected_gpus()), ""
        except OSError as error:
            return frozenset(), f"{self._tree.devices} can't be listed: {error.strerror}"

    def _driver_root(self) -> DriverRoot:
        return DriverRoot(plugin_settings(self._options, self._naming).driver_root)


class _NoEvents:
    """An EventHandler for a worker that sends no events."""

    def handle(self, event: BackendEvent) -> None:
        """Not called: no GPU is watched."""


def _held(gpu: Gpu) -> HeldDevice:
    return HeldDevice(uuid=gpu.uuid, device=DeviceName(gpu.bus_id), minor=gpu.minor or 0, requests=())


def _first(tree: FileTree, installed: Installation, library: tuple[str, str | None], search: Query) -> str:
    found = next(iter(candidates(tree, installed, library, search)), None)
    if found is None:
        return f"no {library[0]}"
    return f"/{found.path}{f' ({found.flaw})' if found.flaw else ''}"


def _loaded_from(pid: int) -> str:
    """The path of the NVML library in the worker's memory map; empty for a scripted backend."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # /proc is not mounted, or the worker has ended, which its next answer shows
        return ""
    return next((line[line.index("/") :] for line in lines if _LIBRARY in line and "/" in line), "")
