"""Advice to a person about an XID: NVIDIA's own actions for the code, in words.

NVIDIA's catalogue names two actions for each code: an immediate one, and an investigatory one for when the code comes
back. Codes whose status words decide have the advice of their decode.
Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog".
"""

from gpuvitals.health.fault_classes import DECODED_XIDS, CauseRule, FaultClass
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
