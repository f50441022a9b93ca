"""Advice to a person about a reason. About an XID it is NVIDIA's own actions for the code, in words.

NVIDIA's catalogue names two actions for each code: an immediate one, and an investigatory one for when the code comes
back. Codes whose status words decide have the advice of their decode.
Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog".
"""

from typing import assert_never

from gpuvitals.health.fault_classes import DECODED_XIDS, CauseRule, Clearing, FaultClass
from gpuvitals.health.xid_catalog import CATALOG

IMMEDIATE = {
    "IGNORE": "nothing at once",
    "RESTART_APP": "restart the application",
    "WORKFLOW_XID_45": "follow the XID before it; if there was none, restart the fabric manager",
    "RESET_GPU": "reset the GPU",
    "WORKFLOW_XID_48": "reset the GPU; drain it first if XID 63 or 64 came too",
    "WORKFLOW_NVLINK_ERR": "decode the seven words of the line with gpuvitals explain --line",
    "WORKFLOW_NVLINK5_ERR": "decode the words of the line with gpuvitals explain --line",
    "RESTART_BM": "restart the machine",
    "RESTART_VM": "restart the virtual machine",
    "CHECK_MECHANICALS": "check the board's power cables and its seating",
    "CONTACT_SUPPORT": "contact NVIDIA's support",
    "UPDATE_SWFW": "update the driver and the firmware",
    "CHECK_UVM": "reset the GPU if unified memory or vGPU is in use, else nothing at once",
    "XID_154": "do what the line asks for",
    "": "do what the driver's recovery action asks for; NVIDIA names no action",
}
"""By NVIDIA's immediate action; the empty one is that of codes for which NVIDIA names none."""

_DIAGNOSE = "if applications that are known to be good meet it too, run NVIDIA's field diagnostics"
INVESTIGATORY = {
    "": "",
    "IGNORE": "",
    "UPDATE_SWFW": "",
    "WORKFLOW_NVLINK5_ERR": "",
    "none (informs about another XID)": "",
    "solo: RESTART_FM; else IGNORE (follow the other XID)": "",
    "IGNORE (sympathetic)": "look at the XID that it came with",
    "CONTACT_SUPPORT": "if it comes back, contact NVIDIA's support",
    "CHECK_APP/CUDA": "if it comes back, check the application and its CUDA version",
    "WORKFLOW_XID_13": _DIAGNOSE,
    "WORKFLOW_XID_31": _DIAGNOSE,
    "WORKFLOW_XID_48": "if the SRAM threshold was exceeded, run NVIDIA's field diagnostics",
    "INVESTIGATE_SW": "if it comes back, investigate the software: driver, firmware, application",
    "INVESTIGATE_SW_USER": "if it comes back, investigate the software that used the links",
    "INVESTIGATE_LINK_SI": "if it comes back, check the signals of the NVLink: cables and connectors",
    "XID_137_FLOW": "if it comes back, follow NVIDIA's workflow for XID 137",
    "SYMPATHETIC_REPORT_SOLO": "if no other XID came with it, contact NVIDIA's support",
}
"""By NVIDIA's investigatory action; empty where it adds nothing to the immediate one."""

_SURPRISE = (
    "if the kernel log shows Surprise Down (AER) before it, check the slot's power, riser and cables first"
)
_NOTES = {
    63: "a reset, when the GPU is free, puts the remapped row to use",
    79: _SURPRISE,
    94: "reset the GPU when it is free",
}
"""Additions of NVIDIA's page to the actions of a code."""
_DECODED = {
    FaultClass.A: "reset the GPU; if it comes back, contact NVIDIA's support",
    FaultClass.B: "check the NVLink's connectors and cables; if it comes back after a reset, contact NVIDIA's support",
    FaultClass.C: "do what the driver's recovery action asks for; if it asks for nothing, restart the application",
    FaultClass.NONE: "nothing",
}
"""By the class that the status words of the line gave; a line without words that decide has the catalogue's advice."""

UNLISTED = "look the code up in NVIDIA's catalogue; the driver's recovery action decides"

_OF_REASONS = {
    "InitFailed": "read the driver's lines before it in the kernel log; reload the driver or reboot the node; if the GPU "
    "stays down, have its power and seating checked",
    "ResetRequired": "reset the GPU; if it comes back, contact NVIDIA's support",
    "RecoveryResetGpu": "reset the GPU",
    "RecoveryRebootNode": "reboot the node",
    "RecoveryDrainP2P": "let the workloads that use peer access through this GPU end, then start them again",
    "RecoveryDrainAndReset": "drain the GPU, then reset it",
    "RecoveryImexDomain": "recover the IMEX domain",
    "RecoveryBusReset": "reset the GPU over the bus: a reboot of the node does it",
    "RecoverySystemReboot": "reboot the whole system",
    "RecoveryUnknown": "look the number up in the release notes of the driver",
    "GpuLost": "reboot the node; if it comes back lost, have the board and its seating checked; if the kernel log shows "
    "Surprise Down (AER) before it, check the slot's power, riser and cables first",
    "RowRemapFailed": "run field diagnostics and replace the GPU",
    "SramThreshold": "replace the GPU: NVIDIA's RMA policy counts this flag",
    "RowRemapPending": "reset the GPU when it is free",
    "EccUncorrected": "reset the GPU when it is free; watch for row remapping",
    "HardwareSlowdown": "check cooling and power",
    "NvlinkDown": "check the fabric manager and the cabling, then reset the GPU",
    "NvlinkDegraded": "check the link; a reset retrains it",
    "FabricFailed": "check the fabric manager",
    "FabricDegraded": "check the fabric manager and the switches",
    "NvlinkErrors": "check the cabling; a reset retrains the links",
    "PageRetirementPending": "reset the GPU when it is free",
    "PagesRetired": "run field diagnostics; NVIDIA replaces a GPU that has retired so many",
    "RepairPending": "reset the GPU when it is free",
    "MemoryUnrepairable": "run field diagnostics and plan for its replacement",
    "PcieDegraded": "check the seating of the board and the slot's settings",
    "PcieReplays": "check the seating of the board, risers and cables",
    "PcieErrors": "check the seating of the board and the kernel log around that time",
    "NvmlHung": "look for processes in state D; reboot if it lasts",
    "EarlierFault": "look at the event HealthStateRecovered, then reset the GPU or clear it",
    "Flapping": "run field diagnostics and clear it, or replace the GPU: the last repairs did not hold",
}
"""By the reason of a fault that has no XID. The others go by their clearing."""


def advice(rule: CauseRule) -> str:
    """The advice for a fault without an XID."""
    return _OF_REASONS.get(rule.reason, _by_clearing(rule))


def xid_advice(code: int, rule: CauseRule | None = None) -> str:
    """The advice for an XID. `rule` is that of its open fault, which the line's status words may have decided."""
    if rule is not None and code in DECODED_XIDS and rule.fault_class in _DECODED:
        return "; ".join(part for part in (rule.look_at, _DECODED[rule.fault_class]) if part)
    entry = CATALOG.get(code)
    if entry is None or entry.unused:
        return UNLISTED
    parts = (IMMEDIATE[entry.bucket], _NOTES.get(code, ""), INVESTIGATORY[entry.investigatory])
    return "; ".join(part for part in parts if part)


def nvidia_actions(code: int) -> str:
    """NVIDIA's immediate and investigatory action for a code, as its catalogue writes them."""
    entry = CATALOG[code]
    return f"{entry.bucket or 'none'}, {entry.investigatory or 'none'}"


def _by_clearing(rule: CauseRule) -> str:
    match rule.clearing:
        case Clearing.RESET:
            return "reset the GPU; if it comes back, contact NVIDIA's support"
        case Clearing.RETRACTED:
            return "ask the author of the report; withdraw it once the GPU is repaired"
        case Clearing.LEVEL:
            return "do what the driver asks for"
        case Clearing.OPERATOR | Clearing.QUIET:
            return "replace the GPU"
        case Clearing.EXPIRY:
            return "look at the application first" if rule.fault_class is FaultClass.C else "watch it"
        case _:
            assert_never(rule.clearing)
