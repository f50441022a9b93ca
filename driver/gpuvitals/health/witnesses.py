"""Who else can say so: the independent witnesses of each kind of fault, and how sure a verdict therefore is.

Isolating one device needs one definitive witness. Anything disruptive needs two, or the driver's recovery action;
where no second witness exists, a person has to approve.
"""

from enum import Enum
from typing import assert_never

from gpuvitals.health.fault_classes import LEVELS, Clearing
from gpuvitals.health.state import Fault, GpuState
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Reading, Source


class Witness(Enum):
    """An independent source. An NVML XID event is the kernel's line arriving a second way: both are XID."""

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
    """What broke, as far as it decides who else can see it."""

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
"""Besides the line that reports a fault of that kind: the states that are read and would show it too.

No line is among them. One function of the driver prints XID 79 and the line that the GPU has fallen off the bus, and one
handler logs XID 48 with 63, 64, 94, 95, 171 or 172: lines that come together are one observation.
Source: NVIDIA/open-gpu-kernel-modules, osinit.c osHandleGpuLost.
"""

XID_KINDS = {
    FaultKind.BUS: {79, 167},
    FaultKind.MEMORY: {48, 63, 64, 92, 94, 95, 140, 156, 157, 160, 161, 168, 171, 172},
    FaultKind.NVLINK: {74, 136, 137, *range(144, 151), 155, 166, 170},
    FaultKind.FIRMWARE: {38, 46, 62, 109, 119, 120, 143, 151, 158, 169},
    FaultKind.CLOCKS: {54},
}
"""Kinds by XID, after the catalogue's descriptions; the rest are OTHER."""

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
    # Errors of the slot's wires are the bus's, but no sign that the GPU is gone from it.
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
"""What is reported, as opposed to read."""
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
    """The reasons without an XID that are of that kind, sorted."""
    return tuple(sorted(reason for reason in LEVELS if fault_kind(reason) is kind))


def witnesses(state: GpuState, fault: Fault) -> frozenset[Witness]:
    """Everyone who testifies to the fault now: who reported it, and those of its kind whose level is bad as well."""
    told: set[Witness] = set()
    for other in state.faults:
        if other.good_since is None and other is not fault:
            told |= _own_witnesses(other)
    kind = fault_kind(fault.rule.reason)
    found = _own_witnesses(fault) | (told & WITNESSES[kind])
    # DCGM reads the counters that we read: it bears witness where we have not read them, and is no third one.
    if found <= _LOGGED and kind in _shown_by(state.dcgm_reading):
        found.add(Witness.DCGM)
    return frozenset(found)


def is_corroborated(state: GpuState, fault: Fault) -> bool:
    """Whether something that is read, as opposed to logged, agrees with the report of the fault."""
    if fault.rule.clearing is Clearing.LEVEL:
        return fault.good_since is None
    return bool(witnesses(state, fault) - _LOGGED)


def confidence(state: GpuState, fault: Fault) -> Confidence:
    """How sure the fault is: what may be done about it hangs on this."""
    found = witnesses(state, fault)
    if Witness.RECOVERY_ACTION in found:
        return Confidence.DRIVER
    return Confidence.CORROBORATED if len(found) > 1 else Confidence.SINGLE


def may_disrupt(found: Confidence) -> bool:
    """Whether a cause of that confidence permits what disturbs others, such as a reset, without a person's approval."""
    match found:
        case Confidence.CORROBORATED | Confidence.DRIVER:
            return True
        case Confidence.SINGLE | Confidence.NONE:
            return False
        case _:
            assert_never(found)


def _shown_by(second: Reading | None) -> set[FaultKind]:
    """The kinds of fault that DCGM's reading shows too."""
    if second is None:
        return set()
    shown = {
        FaultKind.MEMORY: second.ecc_uncorrected_volatile or second.remap_pending or second.remap_failed,
        FaultKind.NVLINK: second.link_errors,
        FaultKind.CLOCKS: second.hardware_slowdown,
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
