"""Advice to operators per reason. The advice for an XID is NVIDIA's own action for the code, in words.

NVIDIA's catalogue has two actions per code: an immediate one, and an investigatory one for a code that recurs. XIDs with
status words have the advice of their decode.
Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog".
"""

from typing import assert_never

from gpuvitals.health.fault_classes import CauseRule, Clearing, FaultClass
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import DECODED_XIDS

IMMEDIATE = {
    "IGNORE": "no immediate action",
    "RESTART_APP": "restart the application",
    "WORKFLOW_XID_45": "follow the preceding XID; if there is none, restart the fabric manager",
    "RESET_GPU": "reset the GPU",
    "WORKFLOW_XID_48": "reset the GPU; drain it first if XID 63 or 64 was logged too",
    "WORKFLOW_NVLINK_ERR": "decode the seven status words of the line with gpuvitals explain --line",
    "WORKFLOW_NVLINK5_ERR": "decode the status words of the line with gpuvitals explain --line",
    "RESTART_BM": "restart the machine",
    "RESTART_VM": "restart the virtual machine",
    "CHECK_MECHANICALS": "check the board's power cables and its seating",
    "CONTACT_SUPPORT": "contact NVIDIA support",
    "UPDATE_SWFW": "update the driver and the firmware",
    "CHECK_UVM": "reset the GPU if unified memory or vGPU is in use, else no immediate action",
    "XID_154": "perform the recovery action that the line names",
    "": "follow the driver's recovery action; NVIDIA names no action",
}
"""Advice by NVIDIA's immediate action; the empty key is for codes without one."""

_DIAGNOSE = "if known-good applications get it too, run NVIDIA's field diagnostics"
INVESTIGATORY = {
    "": "",
    "IGNORE": "",
    "UPDATE_SWFW": "",
    "WORKFLOW_NVLINK5_ERR": "",
    "none (informs about another XID)": "",
    "solo: RESTART_FM; else IGNORE (follow the other XID)": "",
    "IGNORE (sympathetic)": "check the XID logged together with it",
    "CONTACT_SUPPORT": "if it recurs, contact NVIDIA support",
    "CHECK_APP/CUDA": "if it recurs, check the application and its CUDA version",
    "WORKFLOW_XID_13": _DIAGNOSE,
    "WORKFLOW_XID_31": _DIAGNOSE,
    "WORKFLOW_XID_48": "if the SRAM threshold was exceeded, run NVIDIA's field diagnostics",
    "INVESTIGATE_SW": "if it recurs, investigate the software: driver, firmware, application",
    "INVESTIGATE_SW_USER": "if it recurs, investigate the software that used the links",
    "INVESTIGATE_LINK_SI": "if it recurs, check the signal integrity of the NVLink: cables and connectors",
    "XID_137_FLOW": "if it recurs, follow NVIDIA's workflow for XID 137",
    "SYMPATHETIC_REPORT_SOLO": "if no other XID was logged with it, contact NVIDIA support",
}
"""Advice by NVIDIA's investigatory action; empty if it adds nothing to the immediate one."""

_SURPRISE = (
    "if the kernel log shows Surprise Down (AER) before it, check the slot's power, riser and cables first"
)
_NOTES = {
    63: "reset the GPU when it is free, to apply the row remapping",
    79: _SURPRISE,
    94: "reset the GPU when it is free",
}
"""Additional advice of NVIDIA's page for a code."""
_DECODED = {
    FaultClass.A: "reset the GPU; if it recurs, contact NVIDIA support",
    FaultClass.B: "check the NVLink's connectors and cables; if it recurs after a reset, contact NVIDIA support",
    FaultClass.C: "follow the driver's recovery action; if it is None, restart the application",
    FaultClass.NONE: "nothing",
}
"""Advice by the class that the status words gave; other lines have the catalogue's advice."""

UNLISTED = "look the code up in NVIDIA's catalogue, and follow the driver's recovery action"

_OF_REASONS = {
    "InitFailed": "check the driver's preceding lines in the kernel log; reload the driver or reboot the node; if the GPU "
    "stays down, have its power and seating checked",
    "ResetRequired": "reset the GPU; if it recurs, contact NVIDIA support",
    "RecoveryResetGpu": "reset the GPU",
    "RecoveryRebootNode": "reboot the node",
    "RecoveryDrainP2P": "stop the workloads that use peer-to-peer access through this GPU, then start them again",
    "RecoveryDrainAndReset": "drain the GPU, then reset it",
    "RecoveryImexDomain": "recover the IMEX domain",
    "RecoveryBusReset": "perform a bus reset: reboot the node",
    "RecoverySystemReboot": "reboot the system",
    "RecoveryUnknown": "look the number up in the release notes of the driver",
    "GpuLost": "reboot the node; if the GPU is lost again, have the board and its seating checked; if the kernel log shows "
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
    "PagesRetired": "run field diagnostics; NVIDIA replaces a GPU with this many retired pages",
    "RepairPending": "reset the GPU when it is free",
    "MemoryUnrepairable": "run field diagnostics and plan for its replacement",
    "PcieDegraded": "check the seating of the board and the settings of the slot",
    "PcieReplays": "check the seating of the board, risers and cables",
    "PcieErrors": "check the seating of the board and the kernel log around that time",
    "NvmlHung": "look for processes in state D; reboot if it lasts",
    "EarlierFault": "check the event HealthStateRecovered, then reset the GPU or clear it",
    "Flapping": "run field diagnostics and clear it, or replace the GPU: the last repairs did not last",
}
"""Advice by reason, for faults without an XID. The others have the advice of their clearing."""


def advice(rule: CauseRule) -> str:
    """The advice for a fault without an XID."""
    return _OF_REASONS.get(rule.reason, _by_clearing(rule))


def xid_advice(code: int, rule: CauseRule | None = None) -> str:
    """The advice for an XID. `rule` is the rule of its open fault, which may depend on the line's status words."""
    if rule is not None and code in DECODED_XIDS and rule.fault_class in _DECODED:
        return "; ".join(part for part in (rule.look_at, _DECODED[rule.fault_class]) if part)
    entry = CATALOG.get(code)
    if entry is None or entry.unused:
        return UNLISTED
    parts = (IMMEDIATE[entry.bucket], _NOTES.get(code, ""), INVESTIGATORY[entry.investigatory])
    return "; ".join(part for part in parts if part)


def nvidia_actions(code: int) -> str:
    """NVIDIA's immediate and investigatory action for a code, as written in its catalogue."""
    entry = CATALOG[code]
    return f"{entry.bucket or 'none'}, {entry.investigatory or 'none'}"


def _by_clearing(rule: CauseRule) -> str:
    match rule.clearing:
        case Clearing.RESET:
            return "reset the GPU; if it recurs, contact NVIDIA support"
        case Clearing.RETRACTED:
            return "ask the reporter; retract the report after the repair"
        case Clearing.LEVEL:
            return "follow the driver's recovery action"
        case Clearing.OPERATOR | Clearing.QUIET:
            return "replace the GPU"
        case Clearing.EXPIRY:
            return "check the application first" if rule.fault_class is FaultClass.C else "monitor it"
        case _:
            assert_never(rule.clearing)
