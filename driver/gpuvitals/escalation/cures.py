"""The table of cures: the steps that can heal a cause, in order. A step outside the list is never taken.

Source: controller design, section 5; NVML recovery actions: nvml.h 13.5, nvmlDeviceGpuRecoveryAction_t.
"""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.escalation.remediation import Cause, Scope
from gpuvitals.health.fault_classes import LEVELS, Clearing, FaultClass
from gpuvitals.health.xid_rules import xid_number, xid_rule_by_number
from gpuvitals.model.action import Step

_NODE_STEPS = (Step.DRAIN_AND_REBOOT, Step.REPLACE_NODE)


class CauseKind(Enum):
    """The kind of a cause, which selects its row of the table."""

    RESET_REQUESTED = "reset requested"
    XID = "XID without a recovery action"
    OFF_BUS = "off the bus, or a reboot requested"
    POWER_CYCLE = "a power cycle requested"
    UNREPAIRABLE = "not repairable"
    DRIVER = "driver"
    FABRIC = "fabric"
    BUS_RESET = "a reset of the group requested"
    OTHER = "no known cure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """The steps against a kind of cause, in order. None of them: a person decides, with the evidence.

    `power_cycle`: a warm reboot does not heal it.
    """

    kind: CauseKind
    steps: tuple[Step, ...]
    power_cycle: bool = False


CURES = {
    cure.kind: cure
    for cure in (
        Cure(kind=CauseKind.RESET_REQUESTED, steps=(Step.RESET_GPU, *_NODE_STEPS)),
        Cure(kind=CauseKind.XID, steps=(Step.RESET_GPU, *_NODE_STEPS)),
        Cure(kind=CauseKind.OFF_BUS, steps=_NODE_STEPS),
        Cure(kind=CauseKind.POWER_CYCLE, steps=_NODE_STEPS, power_cycle=True),
        Cure(kind=CauseKind.UNREPAIRABLE, steps=(Step.REPLACE_NODE,)),
        Cure(kind=CauseKind.DRIVER, steps=(Step.RESTART_SERVICES, Step.CORDON_NODE, Step.DRAIN_AND_REBOOT)),
        Cure(kind=CauseKind.FABRIC, steps=()),
        Cure(kind=CauseKind.BUS_RESET, steps=(Step.RESET_GPU, *_NODE_STEPS)),
        Cure(kind=CauseKind.OTHER, steps=()),
    )
}

_ACTIONS = {
    "ResetGpu": CauseKind.RESET_REQUESTED,
    "RebootNode": CauseKind.OFF_BUS,
    "DrainP2P": CauseKind.FABRIC,
    "DrainAndReset": CauseKind.RESET_REQUESTED,
    "RecoverImexDomain": CauseKind.FABRIC,
    "BusReset": CauseKind.BUS_RESET,
    "SystemReboot": CauseKind.POWER_CYCLE,
}
_REASONS = {
    "RecoveryResetGpu": CauseKind.RESET_REQUESTED,
    "RecoveryRebootNode": CauseKind.OFF_BUS,
    "RecoveryDrainP2P": CauseKind.FABRIC,
    "RecoveryDrainAndReset": CauseKind.RESET_REQUESTED,
    "RecoveryImexDomain": CauseKind.FABRIC,
    "RecoveryBusReset": CauseKind.BUS_RESET,
    "RecoverySystemReboot": CauseKind.POWER_CYCLE,
    "RowRemapPending": CauseKind.RESET_REQUESTED,
    "PageRetirementPending": CauseKind.RESET_REQUESTED,
    "RepairPending": CauseKind.RESET_REQUESTED,
    "ResetRequired": CauseKind.RESET_REQUESTED,
    "Xid119": CauseKind.RESET_REQUESTED,
    "Xid120": CauseKind.RESET_REQUESTED,
    "EarlierFault": CauseKind.XID,
    "GpuLost": CauseKind.OFF_BUS,
    "Xid79": CauseKind.OFF_BUS,
    "RowRemapFailed": CauseKind.UNREPAIRABLE,
    "MemoryUnrepairable": CauseKind.UNREPAIRABLE,
    "SramThreshold": CauseKind.UNREPAIRABLE,
    "Flapping": CauseKind.UNREPAIRABLE,
    "NvmlHung": CauseKind.DRIVER,
    "InitFailed": CauseKind.DRIVER,
    "GpuNotUp": CauseKind.DRIVER,
    "NvswitchFault": CauseKind.FABRIC,
    "NvlinkDown": CauseKind.FABRIC,
    "NvlinkDegraded": CauseKind.FABRIC,
    "NvlinkErrors": CauseKind.FABRIC,
    "FabricFailed": CauseKind.FABRIC,
    "FabricDegraded": CauseKind.FABRIC,
}


def cause_kind(cause: Cause) -> CauseKind:
    """The kind of the cause. A fault that no reset repairs comes first, then the driver's recovery action."""
    by_reason = _kind_of_reason(cause.reason)
    if by_reason is CauseKind.UNREPAIRABLE:
        return by_reason
    return _ACTIONS.get(cause.recovery_action, by_reason)


def cure(cause: Cause, scope: Scope) -> Cure:
    """The row for the cause. A fault of the fabric has no step, whatever its reason on this device."""
    if scope is Scope.FABRIC:
        return CURES[CauseKind.FABRIC]
    return CURES[cause_kind(cause)]


def _kind_of_reason(reason: str) -> CauseKind:
    if reason in _REASONS:
        return _REASONS[reason]
    number = xid_number(reason)
    if number is not None and reason not in LEVELS:
        rule = xid_rule_by_number(number)
        if rule.fault_class is FaultClass.A and rule.clearing is Clearing.RESET:
            return CauseKind.XID
    return CauseKind.OTHER
