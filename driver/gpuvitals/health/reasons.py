"""The closed list of reasons: what each means, where it comes from, what the product does, what a person should do.

`docs/reference/reasons.md` is generated from here. XIDs are one entry each, from the catalogue.
"""

from dataclasses import dataclass
from typing import assert_never

from gpuvitals.health.advice import UNLISTED, advice, nvidia_actions, xid_advice
from gpuvitals.health.fault_classes import (
    DECODED_XIDS,
    LEVELS,
    CauseRule,
    Clearing,
    FaultClass,
    if_reset_requested,
    worse,
    xid_number,
    xid_rule_by_number,
)
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
from gpuvitals.model.health import NO_REASON
from gpuvitals.model.ids import Reason

ISOLATION_CAPPED = Reason("IsolationCapped")
NVSWITCH_FAULT = Reason("NvswitchFault")
OTHER_DRIVER = Reason("OtherDriver")
GPU_NOT_UP = Reason("GpuNotUp")
DCGM_UNCONFIRMED = Reason("DcgmUnconfirmed")
"""The reasons of a node rather than of a GPU."""
PREPARED = Reason("Prepared")
"""The reason of a claim's `Ready` condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonEntry:
    """One documented reason. `nvidia`: of an XID, the actions that NVIDIA's catalogue names for it."""

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
    "NvmlHung": "a missed deadline of the NVML worker, twice",
    "InitFailed": "the kernel log (RmInitAdapter failed)",
    "GpuLost": "NVML GPU_IS_LOST, the kernel log, or PCI config space",
    "ResetRequired": "NVML RESET_REQUIRED",
    "RowRemapFailed": "NVML remapped rows",
    "RowRemapPending": "NVML remapped rows",
    "SramThreshold": "NVML SRAM ECC status",
    "EccUncorrected": "NVML volatile ECC counters",
    "HardwareSlowdown": "NVML clocks event reasons",
    "Flapping": "what the agent remembers of the GPU",
    "EarlierFault": "the agent's state file or the published slice, where the rest of the memory can't be read",
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
        meaning="no reading succeeded for a minute, or none yet",
        source="the NVML worker",
        agent_action="score 0, class unknown; the device stays in service, unless `isolate_unknown` is set",
        operator_action="look at the agent's log: the driver may be absent or may not answer",
    ),
    ReasonEntry(
        reason=PROBATION,
        meaning="a fault was repaired; the GPU is watched",
        source="an observed reset, a new boot, or an operator",
        agent_action="score at most 69 until the probation ends",
        operator_action="nothing",
    ),
    ReasonEntry(
        reason=INSTANCE_GONE,
        meaning="the MIG instance was destroyed while a claim holds it",
        source="NVML, which lists the other instances of the GPU",
        agent_action="takes it out of service and sets the claim's condition; forgets it when the claim is released",
        operator_action="delete the pod; make the instance again if it is wanted",
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
        agent_action="sets the claim's condition and reports to the kubelet; publishes the GPU that is there now under the slot's device name",
        operator_action="delete the pod and its claim; a new claim gets the GPU that is there now",
    ),
)
_OF_FILES = (
    ReasonEntry(
        reason=LIBRARIES_MISSING,
        meaning="libcuda or NVML is missing, so no claim can be prepared",
        source="the driver root, searched every 2 s",
        agent_action="takes the devices out of service until the files are there; blames no GPU",
        operator_action="install the driver, or set `driver.root` or `driver.libraryDirs`: docs/guides/platforms.md",
    ),
    ReasonEntry(
        reason=NODES_MISSING,
        meaning="a device node is missing, so no claim for the device can be prepared",
        source="the /dev of the driver root and of the node, looked at every 2 s",
        agent_action="takes the devices that need the node out of service until it is there; blames no GPU",
        operator_action="run the command in the message, such as `nvidia-modprobe -u -c0`",
    ),
    ReasonEntry(
        reason=PLATFORM_UNSUPPORTED,
        meaning="the GPUs have no device nodes that could be given to a container, as on WSL2",
        source="/dev/dxg in place of NVIDIA's nodes",
        agent_action="takes the devices out of service; blames no GPU",
        operator_action="use NVIDIA's container toolkit on this machine",
    ),
)
_OF_A_NODE = (
    ReasonEntry(
        reason=ISOLATION_CAPPED,
        meaning="more GPUs are suspect than the policy isolates on such evidence: the fault is the node's",
        source="the verdicts of the node",
        agent_action="keeps the rest in service and says so in the node report",
        operator_action="look at the driver, the fabric manager and the node's power",
    ),
    ReasonEntry(
        reason=NVSWITCH_FAULT,
        meaning="an NVSwitch logged a fatal error",
        source="kernel log (SXid)",
        agent_action="names it in the node report; blames no GPU",
        operator_action="look up the SXid in NVIDIA's Fabric Manager guide; most want a reboot of the node",
    ),
    ReasonEntry(
        reason=GPU_NOT_UP,
        meaning="a GPU is on the bus, and the driver does not enumerate it",
        source="sysfs, compared with NVML's list",
        agent_action="names its bus id among the missing GPUs of the node report; there is no device to take out",
        operator_action="look for its bus id in the kernel log; if a reboot does not bring it up, have its seating checked",
    ),
    ReasonEntry(
        reason=DCGM_UNCONFIRMED,
        meaning="the DCGM exporter alone reports faults on more GPUs than the isolation cap",
        source="the DCGM exporter, compared with every other source",
        agent_action="degrades these GPUs, isolates none, and names it in the node report",
        operator_action="check which process answers at `dcgm.url`; if it is the exporter, look at the driver and the node's power",
    ),
    ReasonEntry(
        reason=OTHER_DRIVER,
        meaning="another driver gives out GPUs of this node",
        source="slices of other drivers with the same UUID or bus id, and allocatable GPUs of a device plugin",
        agent_action="publishes no device of the node and says why in the node report; goes on by itself",
        operator_action="let one driver have the node: see docs/guides/coexistence.md",
    ),
)
_OF_A_CLAIM = (
    ReasonEntry(
        reason=PREPARED,
        meaning="the device is prepared for the claim on its node",
        source="the kubelet plugin",
        agent_action="says so in the claim's status",
        operator_action="nothing",
    ),
)


UNLISTED_XID = ReasonEntry(
    reason=Reason("Xid"),
    meaning="an XID that the catalogue does not have, or has no use for",
    source="kernel log",
    agent_action="degrades it (score at most 90); never isolates it alone",
    operator_action=UNLISTED,
)
"""What holds for `Xid` with any other code."""


def entries() -> tuple[ReasonEntry, ...]:
    """The whole list: those of no fault, of a node and of a claim, the levels, then every XID that is in use."""
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
    """The entry of a reason, None where `text` is none. XIDs beyond the catalogue have one: a driver may print newer codes."""
    listed = next((entry for entry in entries() if entry.reason == text), None)
    if listed is not None:
        return listed
    return None if xid_number(text) is None else UNLISTED_XID


def is_reason(text: str) -> bool:
    """Whether `text` is on the list."""
    return entry_of(text) is not None


def recorded_xids() -> tuple[ReasonEntry, ...]:
    """The XIDs in use that open no fault by their number, so that they are no reason of a verdict."""
    found = (_of_xid(code) for code, entry in sorted(CATALOG.items()) if not entry.unused)
    listed = {entry.reason for entry in entries()}
    return tuple(entry for entry in found if entry.reason not in listed)


def operator_advice(reason: Reason, rule: CauseRule | None) -> str:
    """Advice to a person about that reason. `rule` is that of the open fault, which a decode may have raised."""
    code = xid_number(reason)
    if code is not None:
        return xid_advice(code, rule)
    if rule is not None:
        return advice(rule)
    entry = entry_of(reason)
    return "watch it" if entry is None else entry.operator_action


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
        return "goes by the status words on the line, from nothing to taking the GPU out; without them degrades it"
    if worse(rule, if_reset_requested(rule)) != rule:
        return "degrades it; takes it out of service while the driver's recovery action asks for a reset"
    if rule.clearing is Clearing.QUIET:
        return "keeps the GPU out after its third repair within a day, until it has held for 6 h or an operator clears it"
    match rule.fault_class:
        case FaultClass.A:
            return "takes the GPU out of service at once"
        case FaultClass.B:
            return (
                "degrades it; takes it out of service after 5 min, at a second episode within 5 min, or at the third "
                "time within a day"
            )
        case FaultClass.B0:
            return "degrades it (score at most 90); never isolates it alone"
        case FaultClass.C:
            return "counts only when a second claim meets it within a day; then degrades it"
        case FaultClass.NONE:
            return "records it"
        case _:
            assert_never(rule.fault_class)
