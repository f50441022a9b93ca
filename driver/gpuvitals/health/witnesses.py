"""Independent witnesses per kind of fault, and the confidence of a verdict.

Isolating one device needs one definitive witness. A disruptive action, such as a reset, needs two witnesses or the
driver's recovery action, else an operator's approval.
"""

from enum import Enum
from typing import assert_never

from gpuvitals.health.fault_classes import LEVELS, Clearing
from gpuvitals.health.state import Fault, GpuState
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Reading, Source


class Witness(Enum):
    """An independent source. NVML's XID event repeats the kernel's line, so both are XID."""

    XID = "xid"
    OFF_BUS_LINE = "off-bus-line"
    INIT_LINE = "init-line"
    RECOVERY_ACTION = "recovery-action"
    ECC = "ecc"
    ROW_REMAP = "row-remap"
    HANDLE = "nvml-handle"
    CONFIG_SPACE = "pci-config-space"
    LINKS = "nvlink-states"
    FABRIC = "fabric-state"
    CLOCKS = "clock-reasons"
    REPAIR = "repair-status"
    PCIE = "pcie-counters"
    HISTORY = "history"
    DCGM = "dcgm"
    PERSON = "person"
    PROGRAM = "program"


class FaultKind(Enum):
    """The failed component, which determines the possible witnesses."""

    BUS = "bus"
    MEMORY = "memory"
    NVLINK = "nvlink"
    FIRMWARE = "firmware"
    CLOCKS = "clocks"
    OTHER = "other"


WITNESSES = {
    FaultKind.BUS: {Witness.HANDLE, Witness.CONFIG_SPACE, Witness.RECOVERY_ACTION},
    FaultKind.MEMORY: {
        Witness.ECC,
        Witness.ROW_REMAP,
        Witness.REPAIR,
        Witness.RECOVERY_ACTION,
        Witness.DCGM,
    },
    FaultKind.NVLINK: {Witness.LINKS, Witness.FABRIC, Witness.RECOVERY_ACTION, Witness.DCGM},
    FaultKind.FIRMWARE: {Witness.HANDLE, Witness.RECOVERY_ACTION},
    FaultKind.CLOCKS: {Witness.CLOCKS, Witness.RECOVERY_ACTION, Witness.DCGM},
    FaultKind.OTHER: {Witness.RECOVERY_ACTION},
}
"""The readings that confirm a fault of each kind, in addition to the line or reading that reports it.

Log lines are no additional witnesses: one function of the driver logs XID 79 and "GPU has fallen off the bus", and one
handler logs XID 48 with 63, 64, 94, 95, 171 or 172, so lines that come together are one observation.
Source: NVIDIA/open-gpu-kernel-modules, osinit.c osHandleGpuLost.
"""

XID_KINDS = {
    FaultKind.BUS: {79, 167},
    FaultKind.MEMORY: {48, 63, 64, 92, 94, 95, 140, 156, 157, 160, 161, 168, 171, 172},
    FaultKind.NVLINK: {74, 136, 137, *range(144, 151), 155, 166, 170},
    FaultKind.FIRMWARE: {38, 46, 62, 109, 119, 120, 143, 151, 158, 169},
    FaultKind.CLOCKS: {54},
}
"""XIDs by kind, from the catalogue's descriptions; the others are OTHER."""

_LEVEL_WITNESSES = {
    "ResetRequired": (FaultKind.FIRMWARE, Witness.HANDLE),
    "InitFailed": (FaultKind.FIRMWARE, Witness.INIT_LINE),
    "NvmlHung": (FaultKind.FIRMWARE, Witness.HANDLE),
    "RowRemapFailed": (FaultKind.MEMORY, Witness.ROW_REMAP),
    "RowRemapPending": (FaultKind.MEMORY, Witness.ROW_REMAP),
    "SramThreshold": (FaultKind.MEMORY, Witness.ECC),
    "EccUncorrected": (FaultKind.MEMORY, Witness.ECC),
    "NvlinkDown": (FaultKind.NVLINK, Witness.LINKS),
    "NvlinkDegraded": (FaultKind.NVLINK, Witness.LINKS),
    "FabricFailed": (FaultKind.NVLINK, Witness.FABRIC),
    "FabricDegraded": (FaultKind.NVLINK, Witness.FABRIC),
    "NvlinkErrors": (FaultKind.NVLINK, Witness.LINKS),
    "PageRetirementPending": (FaultKind.MEMORY, Witness.ROW_REMAP),
    "PagesRetired": (FaultKind.MEMORY, Witness.ROW_REMAP),
    "RepairPending": (FaultKind.MEMORY, Witness.REPAIR),
    "MemoryUnrepairable": (FaultKind.MEMORY, Witness.REPAIR),
    # PCIe errors are faults of the bus, but do not show that the GPU is lost.
    "PcieDegraded": (FaultKind.BUS, Witness.PCIE),
    "PcieReplays": (FaultKind.BUS, Witness.PCIE),
    "PcieErrors": (FaultKind.BUS, Witness.PCIE),
    "HardwareSlowdown": (FaultKind.CLOCKS, Witness.CLOCKS),
    "Flapping": (FaultKind.OTHER, Witness.HISTORY),
    "EarlierFault": (FaultKind.OTHER, Witness.HISTORY),
    "ReportedBad": (FaultKind.OTHER, Witness.PERSON),
    "ReportedDegraded": (FaultKind.OTHER, Witness.PERSON),
    "ProgramReportedBad": (FaultKind.OTHER, Witness.PROGRAM),
    "ProgramReportedDegraded": (FaultKind.OTHER, Witness.PROGRAM),
}
_LOGGED = frozenset({Witness.XID, Witness.OFF_BUS_LINE, Witness.INIT_LINE})
"""Witnesses from log lines, as opposed to readings."""
_LOST = {
    Source.KMSG: Witness.OFF_BUS_LINE,
    Source.NVML_EVENT: Witness.HANDLE,
    Source.NVML_POLL: Witness.HANDLE,
    Source.SYSFS: Witness.CONFIG_SPACE,
}


def fault_kind(reason: Reason) -> FaultKind:
    """The kind of the fault of that reason."""
    if reason == "GpuLost":
        return FaultKind.BUS
    if reason in _LEVEL_WITNESSES:
        return _LEVEL_WITNESSES[reason][0]
    if reason in LEVELS:
        return FaultKind.OTHER
    code = int(reason.removeprefix("Xid"))
    return next((kind for kind, codes in XID_KINDS.items() if code in codes), FaultKind.OTHER)


def reasons_of_kind(kind: FaultKind) -> tuple[Reason, ...]:
    """The reasons without an XID of that kind, sorted."""
    return tuple(sorted(reason for reason in LEVELS if fault_kind(reason) is kind))


def witnesses(state: GpuState, fault: Fault) -> frozenset[Witness]:
    """The witnesses of the fault now: its own reports, and bad levels that confirm its kind."""
    others: set[Witness] = set()
    for other in state.faults:
        if other.good_since is None and other is not fault:
            others |= _own_witnesses(other)
    kind = fault_kind(fault.rule.reason)
    found = _own_witnesses(fault) | (others & WITNESSES[kind])
    # DCGM reads the same counters as NVML, so it counts only if no NVML reading is a witness.
    if found <= _LOGGED and kind in _kinds_in(state.dcgm_reading):
        found.add(Witness.DCGM)
    return frozenset(found)


def is_corroborated(state: GpuState, fault: Fault) -> bool:
    """Whether a reading, as opposed to a log line, confirms the fault."""
    if fault.rule.clearing is Clearing.LEVEL:
        return fault.good_since is None
    return bool(witnesses(state, fault) - _LOGGED)


def confidence(state: GpuState, fault: Fault) -> Confidence:
    """The confidence of the fault, which decides the permitted actions."""
    found = witnesses(state, fault)
    if Witness.RECOVERY_ACTION in found:
        return Confidence.DRIVER
    return Confidence.CORROBORATED if len(found) > 1 else Confidence.SINGLE


def may_disrupt(found: Confidence) -> bool:
    """Whether a fault of that confidence permits a disruptive action, such as a reset, without an operator's approval."""
    match found:
        case Confidence.CORROBORATED | Confidence.DRIVER:
            return True
        case Confidence.SINGLE | Confidence.NONE:
            return False
        case _:
            assert_never(found)


def _kinds_in(reading: Reading | None) -> set[FaultKind]:
    """The kinds of fault that DCGM's reading shows."""
    if reading is None:
        return set()
    shown = {
        FaultKind.MEMORY: reading.ecc_uncorrected_volatile or reading.remap_pending or reading.remap_failed,
        FaultKind.NVLINK: reading.link_errors,
        FaultKind.CLOCKS: reading.hardware_slowdown,
    }
    return {kind for kind, is_bad in shown.items() if is_bad}


def _own_witnesses(fault: Fault) -> set[Witness]:
    reason = fault.rule.reason
    if fault.sources == {Source.DCGM}:
        return {Witness.DCGM}
    if reason == "GpuLost":
        return {_LOST[source] for source in fault.sources if source in _LOST}
    if reason in _LEVEL_WITNESSES:
        return {_LEVEL_WITNESSES[reason][1]}
    return {Witness.RECOVERY_ACTION} if reason in LEVELS else {Witness.XID}
