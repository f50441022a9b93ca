"""The NVIDIA driver: NVML through the agent's worker, each GPU's identity, libraries and device nodes."""

import os
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
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, DriverFacts, NvmlFailure
from gpuvitals.signals.sysfs import SysfsTree
from gpuvitals.wiring.kubelet_sockets import driver_place, plugin_settings

NVML_SECONDS = 90.0
"""As long as the NVML checks may take: an open and a few calls that hang, each with two deadlines."""
_DEADLINES = Deadlines(open_seconds=10.0, call_seconds=3.0)
_LIBRARY = "libnvidia-ml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What NVML gave: the GPUs, and where the library was loaded from. `absent` is why there is nothing."""

    gpus: tuple[Gpu, ...] = ()
    absent: str = ""


class DriverChecks:
    """The checks of the driver. `nvml` comes first: the others need its GPUs."""

    def __init__(self, options: NodeOptions, naming: Naming) -> None:
        self._options = options
        self._naming = naming
        self._tree = SysfsTree(options.sysfs_root)
        self.seen = Seen(absent="NVML gave no inventory")

    def nvml(self) -> Iterator[Finding]:
        """The library, its version, and every GPU."""
        on_bus, trouble = self._on_bus()
        if trouble:
            yield warn("pci-bus", trouble, "mount the node's /sys: without it a lost GPU is noticed later")
        else:
            yield ok("pci-bus", f"{len(on_bus)} NVIDIA GPUs", gpus=sorted(on_bus))
        environment = {**os.environ, **driver_place(self._options).environment()}
        seat = WorkerSlot(worker_command(self._options.nvml_backend), environment)
        link = WorkerClient(seat, _DEADLINES, lambda event: None, lambda: False)
        try:
            driver = link.open()
            where = _loaded_from(seat.worker.pid if seat.worker is not None else 0)
            known = PollSchedule(())
            taken = survey(link, driver, self._tree, known)
        except NvmlFailure as failure:
            yield from self._refused(failure, nothing_there=not on_bus and not trouble)
            return
        except (CallHung, WorkerGone, WorkerLimitError, OSError) as error:
            yield fail(
                "nvml", str(error), "look for XID 119, 120 or a hung nvidia-smi; a reboot may be needed"
            )
            return
        finally:
            seat.close(1.0)
        yield from self._library(driver, where)
        yield from self._gpus(taken, known, on_bus)

    def libraries(self) -> Iterator[Finding]:
        """The files that a container gets, by the resolver that Prepare uses."""
        name, options = "driver-files", self._options
        tree, asked = FileTree(options.driver_root), query(options.proc_root, options.driver_libraries)
        installed = find_driver(tree, asked)
        refusal = self._driver_root().lacking()
        if refusal is not None and refusal.code is RefusalCode.LIBRARIES_MISSING:
            if self.seen.absent and not self.seen.gpus:
                yield skipped(name, f"{self.seen.absent}; no driver was found below {options.driver_root}")
            else:
                yield fail(
                    name, refusal.message, "install the driver, or set driver.root and driver.libraryDirs"
                )
            return
        found = [_first(tree, installed, library, asked) for library in REQUIRED]
        loaded = loaded_version(options.proc_root)
        text = f"{', '.join(found)} below {options.driver_root}; kernel module {loaded or 'not shown'}"
        yield ok(name, text, kernel_module=loaded)

    def device_nodes(self) -> Iterator[Finding]:
        """The nodes of every GPU, as Prepare looks for them."""
        name, root = "device-nodes", self._driver_root()
        refusal = root.lacking()
        if refusal is not None and refusal.code is RefusalCode.LIBRARIES_MISSING:
            yield skipped(name, "the driver's files were not found, which Prepare needs first")
            return
        if refusal is not None:
            yield fail(name, refusal.message, "run the named command on the node")
            return
        devices = [
            _held(gpu) for gpu in self.seen.gpus if gpu.kind is DeviceKind.GPU and gpu.minor is not None
        ]
        lacking = [(device, root.lacking_of(device)) for device in devices]
        for device, why in lacking:
            if why is not None:
                yield fail(name, f"{device.device}: {why.message}", "run the named command on the node")
        if all(why is None for _, why in lacking):
            yield ok(name, f"nvidiactl, nvidia-uvm and those of {len(devices)} GPUs are there")

    def _refused(self, failure: NvmlFailure, *, nothing_there: bool) -> Iterator[Finding]:
        self.seen = Seen(absent=f"NVML does not answer: {failure}")
        if nothing_there:
            self.seen = Seen(absent="this machine shows no NVIDIA GPU")
            yield skipped("nvml", f"{self.seen.absent}, and NVML does not answer")
        elif failure.code in DRIVER_CODES:
            yield fail(
                "nvml",
                f"{failure}; {self._tree.module()}",
                "install and load the NVIDIA driver, or set driver.root to where it is",
            )
        else:
            yield fail("nvml", str(failure), "read the kernel log for NVRM lines")

    def _library(self, driver: DriverFacts, where: str) -> Iterator[Finding]:
        text = f"{where or 'a scripted backend'}, driver {driver.driver_version}, CUDA {driver.cuda_driver_version}"
        facts: dict[str, object] = {"library": where, "driver_version": driver.driver_version}
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

    def _gpus(self, taken: Survey, known: PollSchedule, on_bus: frozenset[str]) -> Iterator[Finding]:
        self.seen = Seen(gpus=taken.gpus)
        for gpu in taken.gpus:
            instances = ""
            if (facts := taken.divisions.get(gpu.uuid)) is not None and facts.enabled:
                instances = f", MIG on with {len(divided(gpu, facts)[1])} instances"
            yield ok(
                f"gpu {gpu.bus_id}",
                f"{gpu.product_name}, {gpu.uuid}, minor {gpu.minor}, {gpu.memory_bytes >> 30} GiB{instances}",
                uuid=gpu.uuid,
                product=gpu.product_name,
            )
        for index, reason in sorted(known.nameless.items()):
            yield fail(
                f"gpu index {index}", reason, "read the kernel log for NVRM lines; a reset may be needed"
            )
        for bus_id in sorted(on_bus - {gpu.bus_id for gpu in taken.gpus}):
            yield fail(
                f"gpu {bus_id}",
                "on the PCI bus, and the driver does not enumerate it",
                "look for its bus id in the kernel log; if a reboot does not help, have its seating checked",
            )
        if not taken.gpus and not on_bus:
            yield warn("gpus", "the driver enumerates no GPU", "nothing, if this node should have none")

    def _on_bus(self) -> tuple[frozenset[str], str]:
        try:
            return frozenset(str(bus_id) for bus_id in self._tree.expected_gpus()), ""
        except OSError as error:
            return frozenset(), f"{self._tree.devices} can't be listed: {error.strerror}"

    def _driver_root(self) -> DriverRoot:
        return DriverRoot(plugin_settings(self._options, self._naming).driver_root)


def _held(gpu: Gpu) -> HeldDevice:
    return HeldDevice(uuid=gpu.uuid, device=DeviceName(gpu.bus_id), minor=gpu.minor or 0, requests=())


def _first(tree: FileTree, installed: Installation, library: tuple[str, str | None], asked: Query) -> str:
    found = next(iter(candidates(tree, installed, library, asked)), None)
    if found is None:
        return f"no {library[0]}"
    return f"/{found.path}{f' ({found.flaw})' if found.flaw else ''}"


def _loaded_from(pid: int) -> str:
    """The file that the worker has mapped as NVML; empty for a scripted backend."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # /proc is not shown, or the worker has ended: its next answer says so
        return ""
    return next((line[line.index("/") :] for line in lines if _LIBRARY in line and "/" in line), "")
