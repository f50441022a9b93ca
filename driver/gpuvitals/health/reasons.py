"""The closed list of reasons, with meaning, source, the agent's action and the advice to operators.

`docs/reference/reasons.md` is generated from here. Each XID of the catalogue has an entry.
"""

from dataclasses import dataclass
from typing import assert_never

from gpuvitals.health.advice import UNLISTED, advice, nvidia_actions, xid_advice
from gpuvitals.health.fault_classes import LEVELS, CauseRule, Clearing, FaultClass, worse
from gpuvitals.health.unusable import (
    GPU_REPLACED,
    INSTANCE_GONE,
    LIBRARIES_MISSING,
    MIG_ENABLED,
    NODES_MISSING,
    PLATFORM_UNSUPPORTED,
)
from gpuvitals.health.verdict import NO_EVIDENCE, PROBATION
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import DECODED_XIDS, if_reset_requested, xid_number, xid_rule_by_number
from gpuvitals.model.health import NO_REASON
from gpuvitals.model.ids import Reason

ISOLATION_CAPPED = Reason("IsolationCapped")
NVSWITCH_FAULT = Reason("NvswitchFault")
OTHER_DRIVER = Reason("OtherDriver")
GPU_NOT_UP = Reason("GpuNotUp")
DCGM_UNCONFIRMED = Reason("DcgmUnconfirmed")
"""Reasons of a node, not of a GPU."""
PREPARED = Reason("Prepared")
"""The reason of a claim's `Ready` condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonEntry:
    """One documented reason. `nvidia` are the actions in NVIDIA's catalogue for an XID."""

    reason: Reason
    meaning: str
    source: str
    agent_action: str
    operator_action: str
    nvidia: str = ""


_SOURCES = {
    "NvlinkDown": "NVML link states",
    "NvlinkDegraded": "NVML link states",
    "FabricFailed": "NVML fabric state",
    "FabricDegraded": "NVML fabric health",
    "NvlinkErrors": "NVML NVLink error counters and bit error rate",
    "PageRetirementPending": "NVML retired pages, before Ampere",
    "PagesRetired": "NVML retired pages, before Ampere",
    "RepairPending": "NVML repair status",
    "MemoryUnrepairable": "NVML flag for unrepairable memory",
    "PcieDegraded": "NVML PCIe link width and generation",
    "PcieReplays": "NVML PCIe replay counter",
    "PcieErrors": "NVML and sysfs counts of fatal PCIe errors",
    "NvmlHung": "two missed deadlines of the NVML worker",
    "InitFailed": "the kernel log (RmInitAdapter failed)",
    "GpuLost": "NVML GPU_IS_LOST, the kernel log, or PCI config space",
    "ResetRequired": "NVML RESET_REQUIRED",
    "RowRemapFailed": "NVML remapped rows",
    "RowRemapPending": "NVML remapped rows",
    "SramThreshold": "NVML SRAM ECC status",
    "EccUncorrected": "NVML volatile ECC counters",
    "HardwareSlowdown": "NVML clocks event reasons",
    "Flapping": "the agent's history of the GPU",
    "EarlierFault": "the agent's state file or the published slice, if the rest of the state can't be read",
    "ReportedBad": "annotations of the Node",
    "ReportedDegraded": "annotations of the Node",
    "ProgramReportedBad": "files in the drop-in folder",
    "ProgramReportedDegraded": "files in the drop-in folder",
}


_OF_A_GPU = (
    ReasonEntry(
        reason=NO_REASON,
        meaning="nothing is wrong",
        source="every source",
        agent_action="nothing",
        operator_action="nothing",
    ),
    ReasonEntry(
        reason=NO_EVIDENCE,
        meaning="no successful reading for a minute, or since the start",
        source="the NVML worker",
        agent_action="score 0, class unknown; the device stays in service, unless `isolate_unknown` is set",
        operator_action="check the agent's log: the driver may be missing or hang",
    ),
    ReasonEntry(
        reason=PROBATION,
        meaning="a fault was repaired; the GPU is under observation",
        source="an observed reset, a new boot, or an operator",
        agent_action="score at most 69 until the probation ends",
        operator_action="nothing",
    ),
    ReasonEntry(
        reason=INSTANCE_GONE,
        meaning="the MIG instance was destroyed while a claim holds it",
        source="NVML, which lists only the other instances of the GPU",
        agent_action="takes it out of service and sets the claim's condition; drops it when the claim is released",
        operator_action="delete the pod; create the instance again if it is needed",
    ),
    ReasonEntry(
        reason=MIG_ENABLED,
        meaning="MIG was enabled on a GPU that a claim holds whole",
        source="NVML, which reads the MIG mode with every poll",
        agent_action="sets the claim's condition and reports to the kubelet; offers no instance of the GPU until that claim is released",
        operator_action="delete the pod and its claim, or disable MIG",
    ),
    ReasonEntry(
        reason=GPU_REPLACED,
        meaning="another GPU was enumerated in the slot of a GPU that a claim holds",
        source="NVML, which lists another UUID at the PCI bus ID",
        agent_action="sets the claim's condition and reports to the kubelet; publishes the new GPU under the slot's device name",
        operator_action="delete the pod and its claim; a new claim gets the new GPU",
    ),
)
_OF_FILES = (
    ReasonEntry(
        reason=LIBRARIES_MISSING,
        meaning="libcuda or NVML is missing, so no claim can be prepared",
        source="the driver root, searched every 2 s",
        agent_action="takes the devices out of service until the files exist; attributes it to no GPU",
        operator_action="install the driver, or set `driver.root` or `driver.libraryDirs`: docs/guides/platforms.md",
    ),
    ReasonEntry(
        reason=NODES_MISSING,
        meaning="a device node is missing, so no claim for the device can be prepared",
        source="/dev of the driver root and of the node, checked every 2 s",
        agent_action="takes the devices that need the node out of service until it exists; attributes it to no GPU",
        operator_action="run the command in the message, such as `nvidia-modprobe -u -c0`",
    ),
    ReasonEntry(
        reason=PLATFORM_UNSUPPORTED,
        meaning="the GPUs have no device nodes for containers, as on WSL2",
        source="/dev/dxg in place of NVIDIA's nodes",
        agent_action="takes the devices out of service; attributes it to no GPU",
        operator_action="use NVIDIA's container toolkit on this machine",
    ),
)
_OF_A_NODE = (
    ReasonEntry(
        reason=ISOLATION_CAPPED,
        meaning="more GPUs are suspect than the isolation cap permits, which indicates a fault of the node",
        source="the verdicts of the node",
        agent_action="keeps the other GPUs in service and shows this in the node report",
        operator_action="check the driver, the fabric manager and the node's power",
    ),
    ReasonEntry(
        reason=NVSWITCH_FAULT,
        meaning="an NVSwitch logged a fatal error",
        source="kernel log (SXid)",
        agent_action="shows it in the node report; attributes it to no GPU",
        operator_action="look up the SXid in NVIDIA's Fabric Manager guide; most need a reboot of the node",
    ),
    ReasonEntry(
        reason=GPU_NOT_UP,
        meaning="a GPU is on the PCI bus, but the driver does not enumerate it",
        source="sysfs, compared with NVML's list of GPUs",
        agent_action="lists its bus ID among the missing GPUs of the node report; it has no device to take out of service",
        operator_action="search the kernel log for its bus ID; if a reboot does not help, have its seating checked",
    ),
    ReasonEntry(
        reason=DCGM_UNCONFIRMED,
        meaning="the DCGM exporter alone reports faults on more GPUs than the isolation cap",
        source="the DCGM exporter, compared with every other source",
        agent_action="degrades these GPUs, isolates none, and shows it in the node report",
        operator_action="check which process serves `dcgm.url`; if it is the exporter, check the driver and the node's power",
    ),
    ReasonEntry(
        reason=OTHER_DRIVER,
        meaning="another driver allocates GPUs of this node",
        source="slices of other drivers with the same UUID or bus ID, and allocatable GPUs of a device plugin",
        agent_action="publishes no device of the node and shows the cause in the node report; resumes by itself",
        operator_action="use one driver per node: see docs/guides/coexistence.md",
    ),
)
_OF_A_CLAIM = (
    ReasonEntry(
        reason=PREPARED,
        meaning="the device is prepared for the claim on its node",
        source="the kubelet plugin",
        agent_action="sets the claim's status",
        operator_action="nothing",
    ),
)


UNLISTED_XID = ReasonEntry(
    reason=Reason("Xid"),
    meaning="an XID that is not in the catalogue, or unused there",
    source="kernel log",
    agent_action="degrades it (score at most 90); never isolates it alone",
    operator_action=UNLISTED,
)
"""The entry of `Xid` with any other code."""


def entries() -> tuple[ReasonEntry, ...]:
    """The whole list: reasons without a fault, of a node and of a claim, faults without an XID, then the XIDs in use."""
    levels = tuple(
        _of_rule(rule, _SOURCES.get(rule.reason, "NVML recovery action, XID 154")) for rule in LEVELS.values()
    )
    xids = tuple(
        _of_xid(code)
        for code, entry in sorted(CATALOG.items())
        if not entry.unused and xid_rule_by_number(code).fault_class is not FaultClass.NONE
    )
    return (*_OF_A_GPU, *_OF_FILES, *_OF_A_NODE, *_OF_A_CLAIM, *levels, *xids)


def entry_of(text: str) -> ReasonEntry | None:
    """The entry of a reason, None if `text` is no reason. Every XID has one, since a newer driver can log new codes."""
    listed = next((entry for entry in entries() if entry.reason == text), None)
    if listed is not None:
        return listed
    return None if xid_number(text) is None else UNLISTED_XID


def is_reason(text: str) -> bool:
    """Whether `text` is on the list."""
    return entry_of(text) is not None


def recorded_xids() -> tuple[ReasonEntry, ...]:
    """The XIDs in use that open no fault, so they are never the reason of a verdict."""
    found = (_of_xid(code) for code, entry in sorted(CATALOG.items()) if not entry.unused)
    listed = {entry.reason for entry in entries()}
    return tuple(entry for entry in found if entry.reason not in listed)


def operator_advice(reason: Reason, rule: CauseRule | None) -> str:
    """Advice to an operator about that reason. `rule` is the rule of the open fault, which status words may have raised."""
    code = xid_number(reason)
    if code is not None:
        return xid_advice(code, rule)
    if rule is not None:
        return advice(rule)
    entry = entry_of(reason)
    return "monitor it" if entry is None else entry.operator_action


def _of_xid(code: int) -> ReasonEntry:
    rule = xid_rule_by_number(code)
    return ReasonEntry(
        reason=rule.reason,
        meaning=rule.meaning,
        source="kernel log",
        agent_action=_agent_action(rule),
        operator_action=xid_advice(code),
        nvidia=nvidia_actions(code),
    )


def _of_rule(rule: CauseRule, source: str) -> ReasonEntry:
    return ReasonEntry(
        reason=rule.reason,
        meaning=rule.meaning,
        source=source,
        agent_action=_agent_action(rule),
        operator_action=advice(rule),
    )


def _agent_action(rule: CauseRule) -> str:
    if rule.reason in {f"Xid{code}" for code in DECODED_XIDS}:
        return (
            "depends on the status words of the line, from no effect to isolation; without them degrades it"
        )
    if worse(rule, if_reset_requested(rule)) != rule:
        return "degrades it; takes it out of service while the driver's recovery action requests a reset"
    if rule.clearing is Clearing.QUIET:
        return "keeps the GPU out after its third repair within a day, until 6 h without a fault or an operator's clear"
    match rule.fault_class:
        case FaultClass.A:
            return "takes the GPU out of service at once"
        case FaultClass.B:
            return (
                "degrades it; takes it out of service after 5 min, at a second episode within 5 min, or at the third "
                "report within a day"
            )
        case FaultClass.B0:
            return "degrades it (score at most 90); never isolates it alone"
        case FaultClass.C:
            return "counts only if it hits a second claim within a day; then degrades it"
        case FaultClass.NONE:
            return "records it"
        case _:
            assert_never(rule.fault_class)
