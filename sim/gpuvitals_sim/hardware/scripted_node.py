"""A node's scripted GPUs: faults and other changes, and the folder that the real agent reads.

The folder has `gpus.json` (NVML), `nvml.state` (the same for the mock library), `kmsg` (the kernel log), `sys` (the bus),
`driver` (the driver's files, with those of /proc) and `boot_id`. Each step is one atomic change of one of them, which the
agent observes through its real sources.
"""

import fcntl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import msgspec

from gpuvitals.signals.nvml_worker.protocol import MigFacts
from gpuvitals_sim.hardware.driver_files import make_driver_root
from gpuvitals_sim.hardware.gpu_changes import READINGS, changed_gpu, repaired, with_values
from gpuvitals_sim.hardware.kernel_log import KernelLogFile
from gpuvitals_sim.hardware.mig import CapabilityFiles, with_instance, without_instance
from gpuvitals_sim.hardware.nvml_backend import STATE_VARIABLE
from gpuvitals_sim.hardware.nvml_mock_file import nvml_facts
from gpuvitals_sim.hardware.profiles import PROFILES, gpu_script
from gpuvitals_sim.hardware.state_file import (
    EventScript,
    GpuScript,
    NodeScript,
    StateError,
    load_state,
    replace_file,
    save_state,
)
from gpuvitals_sim.hardware.sysfs import SysfsFolder

GPU_IS_LOST = 15
_KEPT_EVENTS = 100


class ScriptedNode:
    """One node. GPUs are numbered from 0 in PCI order. Safe to use from several processes at once."""

    def __init__(self, directory: Path) -> None:
        """Opens a node that `create` has made."""
        self.directory = directory
        self.state_file = directory / "gpus.json"
        self.nvml_state = directory / "nvml.state"
        self.kernel_log = directory / "kmsg"
        self.sysfs_root = directory / "sys"
        self.driver_root = directory / "driver"
        self.proc_root = self.driver_root / "proc"
        self.boot_id_file = directory / "boot_id"
        self._log = KernelLogFile(self.kernel_log)
        self._sysfs = SysfsFolder(self.sysfs_root)
        self._capabilities = CapabilityFiles(self.driver_root)

    @classmethod
    def create(cls, directory: Path, *, name: str, profile: str = "h100", gpus: int = 8) -> "ScriptedNode":
        """Creates a freshly booted node. Raises StateError for a profile that does not exist."""
        if profile not in PROFILES:
            raise StateError(f"profile {profile!r} does not exist; there are {', '.join(sorted(PROFILES))}")
        directory.mkdir(parents=True, exist_ok=True)
        node = cls(directory)
        state = NodeScript(gpus=tuple(gpu_script(PROFILES[profile], name, index) for index in range(gpus)))
        node._save(state)
        node.boot_id_file.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        make_driver_root(node.driver_root, gpus=gpus, version=state.driver_version)
        node._sysfs.load_driver(state.driver_version)
        for gpu in state.gpus:
            node._sysfs.add(gpu)
            node._capabilities.show(gpu)
        node.kernel_line("Linux version 6.8.0-51-generic (scripted)", priority=5)
        node.kernel_line(f"NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  {state.driver_version}")
        return node

    @property
    def gpus(self) -> tuple[GpuScript, ...]:
        """The GPUs as scripted now. Raises StateError."""
        return load_state(self.state_file).gpus

    def environment(self) -> Mapping[str, str]:
        """The environment variables with which the scripted worker finds this node."""
        return {STATE_VARIABLE: str(self.state_file)}

    def library_environment(self, library: Path) -> Mapping[str, str]:
        """The same for the real binding over the mock library in that folder; `nvml.faults` is a file for manual faults."""
        return {
            "LD_LIBRARY_PATH": str(library),
            "NVML_MOCK_STATE": str(self.nvml_state),
            "NVML_MOCK_FAULTS": str(self.directory / "nvml.faults"),
        }

    def set(self, gpu: int, readings: Mapping[str, object]) -> None:
        """Changes values of a poll or a checkup, by the names of READINGS. Raises StateError for an invalid name or value."""
        unknown = sorted(set(readings) - READINGS)
        if unknown:
            raise StateError(
                f"reading {unknown[0]!r} does not exist; there are {', '.join(sorted(READINGS))}"
            )
        self._change(gpu, lambda script: with_values(script, readings))

    def lose(self, gpu: int) -> None:
        """NVML loses this GPU, without a sign on the bus or in the kernel log."""
        self._change(gpu, lambda script: changed_gpu(script, error=GPU_IS_LOST))

    def fail(self, gpu: int, code: int) -> None:
        """Every call about this GPU returns this number of nvmlReturn_t; 0 ends it."""
        self._change(gpu, lambda script: changed_gpu(script, error=code))

    def hang(self, gpu: int, seconds: float) -> None:
        """Calls about this GPU do not return for so many seconds; 0 ends it."""
        until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds if seconds else 0.0
        self._change(gpu, lambda script: changed_gpu(script, hang_until=until))

    def off_bus(self, gpu: int, process: str = "") -> None:
        """The GPU falls off the bus: the driver's log lines, config space all ones, lost in NVML."""
        script = self.gpus[gpu]
        self._sysfs.answer(script, answers=False)
        self.lose(gpu)
        self.xid(gpu, 79, "GPU has fallen off the bus.", process=process)
        self.kernel_line(f"NVRM: GPU {script.bus_id}: GPU has fallen off the bus.")
        self.kernel_line(f"NVRM: GPU {script.bus_id}: GPU serial number is {script.serial}.")

    def pcie_errors(self, gpu: int, count: int) -> None:
        """Sets the kernel's count of fatal PCIe errors of this GPU."""
        self._sysfs.fatal_errors(self.gpus[gpu], count)

    def hide(self, gpu: int) -> None:
        """The GPU stays on the bus and is not enumerated by the driver, as after a failed initialization."""
        self._change(gpu, lambda script: changed_gpu(script, enumerated=False))

    def vanish(self, gpu: int) -> None:
        """The GPU leaves the bus and the driver's count, so that the indexes of those behind it shift."""
        self._change(gpu, lambda script: changed_gpu(script, enumerated=False))
        self._sysfs.remove(self.gpus[gpu])

    def reset(self, gpu: int) -> None:
        """A reset that repairs: on the bus, links up, volatile counters and recovery action zero, identity logged again."""
        self._change(gpu, lambda script: changed_gpu(script, **repaired(script)))
        self._sysfs.add(self.gpus[gpu])
        self.identity(gpu)

    def replace_board(self, gpu: int) -> str:
        """Replaces the board by a healthy one of the same model with a new UUID and serial. Returns the UUID."""
        fresh = uuid.uuid4()
        old, new = self.gpus[gpu].uuid, f"GPU-{fresh}"

        def replaced(state: NodeScript) -> NodeScript:
            gpus = list(state.gpus)
            identity = {"uuid": new, "serial": f"17{fresh.int % 10**11:011d}", "mig": MigFacts(enabled=False)}
            gpus[gpu] = changed_gpu(gpus[gpu], **repaired(gpus[gpu]), **identity)
            events = tuple(event for event in state.events if event.uuid != old)
            return msgspec.structs.replace(state, gpus=tuple(gpus), events=events)

        self._change_node(replaced)
        self._sysfs.add(self.gpus[gpu])
        self._capabilities.show(self.gpus[gpu])
        return new

    def reboot(self) -> None:
        """The machine boots again: another boot id, an empty kernel log, the driver loaded again."""
        self.boot_id_file.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        self.kernel_log.write_bytes(b"")
        version = load_state(self.state_file).driver_version
        self.kernel_line("Linux version 6.8.0-51-generic (scripted)", priority=5)
        self.kernel_line(f"NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  {version}")

    def divide(self, gpu: int, *profiles: str) -> None:
        """Enables MIG with instances of exactly these profiles."""

        def divided(script: GpuScript) -> GpuScript:
            script = msgspec.structs.replace(script, mig=MigFacts(enabled=True))
            return reduce(with_instance, profiles, script)

        self._change_mig(gpu, divided)

    def undivide(self, gpu: int) -> None:
        """Disables MIG and removes its instances."""
        self._change_mig(gpu, lambda script: msgspec.structs.replace(script, mig=MigFacts(enabled=False)))

    def create_instance(self, gpu: int, profile: str) -> None:
        """Creates a MIG instance with the first free ID of its profile."""
        self._change_mig(gpu, lambda script: with_instance(script, profile))

    def destroy_instance(self, gpu: int, gpu_instance: int) -> None:
        """Destroys a MIG instance and its capability files."""
        self._change_mig(gpu, lambda script: without_instance(script, gpu_instance))

    def unload_driver(self, code: int = 9) -> None:
        """Every call returns `code`: 9 is driver not loaded, 18 version mismatch."""
        self._change_node(lambda state: msgspec.structs.replace(state, driver_error=code))

    def load_driver(self, version: str | None = None) -> None:
        """Loads the driver again, optionally in another version."""
        self._sysfs.load_driver(version or load_state(self.state_file).driver_version)
        self._change_node(
            lambda state: msgspec.structs.replace(
                state, driver_error=0, driver_version=version or state.driver_version
            )
        )

    def event(self, gpu: int, xid: int = 0, gpu_instance: int | None = None) -> None:
        """An NVML event: an XID, optionally of one MIG instance, or for 0 a change that requires a poll."""
        self._change_node(lambda state: _with_event(state, state.gpus[gpu].uuid, xid, gpu_instance))

    def kernel_line(self, text: str, *, priority: int = 4) -> int:
        """Appends a record to the kernel log. Returns its sequence number."""
        return self._log.append(text, priority=priority)

    def xid(self, gpu: int, code: int, message: str = "", *, process: str = "", event: bool = True) -> int:
        """An XID line as the driver prints it, and the NVML event that comes with it; the line's sequence number."""
        script = self.gpus[gpu]
        caller = f", pid=4242, name={process}" if process else ""
        rest = f"{caller}, {message}" if message else caller
        where = script.bus_id.rsplit(".", 1)[0]
        sequence = self.kernel_line(f"NVRM: Xid (PCI:{where}): {code}{rest}")
        if event:
            self.event(gpu, code)
        return sequence

    def contained(self, gpu: int, gpu_instance: int, code: int, message: str = "") -> int:
        """An XID of one MIG instance, as the driver prints it, and its NVML event; the line's sequence number."""
        where = self.gpus[gpu].bus_id.rsplit(".", 1)[0]
        rest = f", {message}" if message else ""
        sequence = self.kernel_line(f"NVRM: Xid (PCI:{where} GPU-I:{gpu_instance:02d}): {code}{rest}")
        self.event(gpu, code, gpu_instance)
        return sequence

    def identity(self, gpu: int) -> None:
        """The driver's log lines with UUID and serial of a GPU, as after a reset."""
        script = self.gpus[gpu]
        where = script.bus_id.rsplit(".", 1)[0]
        self.kernel_line(f"NVRM: GPU at PCI:{where}: {script.uuid}")
        self.kernel_line(f"NVRM: GPU Board Serial Number: {script.serial}")

    def _change_mig(self, gpu: int, change: Callable[[GpuScript], GpuScript]) -> None:
        self._change(gpu, change)
        self._capabilities.show(self.gpus[gpu])
        self.event(gpu)

    def _change(self, gpu: int, change: Callable[[GpuScript], GpuScript]) -> None:
        def changed(state: NodeScript) -> NodeScript:
            if not 0 <= gpu < len(state.gpus):
                raise StateError(f"gpu {gpu} does not exist; the node has 0..{len(state.gpus) - 1}")
            gpus = list(state.gpus)
            gpus[gpu] = change(gpus[gpu])
            return msgspec.structs.replace(state, gpus=tuple(gpus))

        self._change_node(changed)

    def _change_node(self, change: Callable[[NodeScript], NodeScript]) -> None:
        with self._locked():
            self._save(change(load_state(self.state_file)))

    def _save(self, state: NodeScript) -> None:
        save_state(self.state_file, state)
        replace_file(self.nvml_state, nvml_facts(state).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _with_event(state: NodeScript, uuid_: str, xid: int, gpu_instance: int | None) -> NodeScript:
    number = 1 + max((event.number for event in state.events), default=0)
    events = (*state.events, EventScript(number=number, uuid=uuid_, xid=xid, gpu_instance=gpu_instance))[
        -_KEPT_EVENTS:
    ]
    return msgspec.structs.replace(state, events=events)
