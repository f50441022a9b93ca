"""The state file of a node's scripted GPUs: written by scenarios and tests, read by the scripted NVML worker.

One JSON object, replaced atomically. msgspec checks it field by field, so that the worker that reads it
stays as small as the real one.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import Checkup, Source
from gpuvitals.signals.nvml_worker.protocol import MigFacts

LinkName = Literal["active", "sleep", "inactive", "unknown"]
FabricName = Literal["not-supported", "not-started", "in-progress", "completed", "degraded", "failed"]


class StateError(Exception):
    """The state file can't be read. The message names the file and the field."""


class Readings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values of a poll of the GPU; None is "could not be read". The names are those of `model.signal.Reading`."""

    recovery_action: int | None = 0
    ecc_uncorrected_volatile: int | None = 0
    ecc_uncorrected_aggregate: int | None = 0
    ecc_corrected_volatile: int | None = 0
    sram_threshold_exceeded: bool | None = False
    remap_pending: bool | None = False
    remap_failed: bool | None = False
    remapped_uncorrectable: int | None = 0
    banks_without_spare: int | None = 0
    links: tuple[LinkName, ...] | None = ()
    fabric: FabricName | None = "not-supported"
    thermal_margin_celsius: int | None = 45
    hardware_slowdown: bool | None = False
    unsupported: tuple[str, ...] = ()


HEALTHY_CHECKUP = Checkup(
    source=Source.NVML_POLL,
    seen=Moment(at=0.0, time=datetime.fromtimestamp(0, UTC)),
    uuid=GpuUuid(""),
    link_replays=0,
    link_recoveries=0,
    link_recoveries_failed=0,
    link_crc_errors=0,
    link_errors_per_petabit=0,
    pcie_replays=0,
    pcie_fatal_errors=0,
    pcie_lanes=16,
    pcie_lanes_max=16,
    pcie_generation=5,
    pcie_generation_max=5,
    idle=False,
    retired_pages=0,
    page_retirement_pending=False,
    repair_pending=False,
    memory_unrepairable=False,
    power_milliwatts=300_000,
    processes=0,
)
"""The values of a checkup of a healthy GPU. The backend fills in the GPU and the time."""


class GpuScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU. `error`: every call about it returns that number of nvmlReturn_t (15 is GPU_IS_LOST).

    `enumerated`: the driver counts it. `hang_until`: calls about it do not return before that instant of
    CLOCK_BOOTTIME. `mig`: its MIG instances. `checkup`: the values that are read once a minute.
    """

    uuid: str
    bus_id: str
    name: str
    architecture: str = ""
    brand: str = ""
    serial: str = ""
    minor: int = 0
    memory_bytes: int = 0
    cuda_compute_capability: str = ""
    pci_device: str = "0x2330"
    numa_node: int = 0
    enumerated: bool = True
    error: int = 0
    hang_until: float = 0.0
    mig: MigFacts = MigFacts(enabled=False)
    readings: Readings = Readings()
    checkup: Checkup = HEALTHY_CHECKUP


class EventScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of the driver, delivered to workers that were watching before it was added. `xid` 0: a change to poll.

    `gpu_instance` is the MIG instance concerned, None for the GPU as a whole.
    """

    number: int
    uuid: str
    xid: int = 0
    gpu_instance: int | None = None


class NodeScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node's driver and GPUs. `driver_error` other than 0: every call returns that number."""

    driver_version: str = "595.45.04"
    cuda_driver_version: str = "13.2"
    driver_error: int = 0
    gpus: tuple[GpuScript, ...]
    events: tuple[EventScript, ...] = ()


_NODE = msgspec.json.Decoder(NodeScript)


def all_active(count: int) -> tuple[LinkName, ...]:
    """So many active links."""
    active: LinkName = "active"
    return (active,) * count


def load_state(path: Path) -> NodeScript:
    """The state in a file. Raises StateError."""
    try:
        return _NODE.decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StateError(f"{path}: {error}") from error


def save_state(path: Path, state: NodeScript) -> None:
    """Replaces the state file."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(state), indent=1))


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file atomically: a reader sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
