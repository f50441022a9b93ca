"""Each cause has only the steps that can heal it."""

from datetime import UTC, datetime

import pytest

from gpuvitals.escalation.cures import CURES, CauseKind, cause_kind, cure
from gpuvitals.escalation.remediation import Cause, Scope
from gpuvitals.health.fault_classes import RECOVERY_ACTIONS
from gpuvitals.health.reasons import entries
from gpuvitals.model.action import Step
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import Reason

RESET, RESTART, CORDON = Step.RESET_GPU, Step.RESTART_SERVICES, Step.CORDON_NODE
REBOOT, REPLACE = Step.DRAIN_AND_REBOOT, Step.REPLACE_NODE
LADDER = (RESET, REBOOT, REPLACE)


def cause(reason: str, action: str = "None") -> Cause:
    return Cause(
        reason=Reason(reason),
        since=datetime(2026, 1, 1, tzinfo=UTC),
        confidence=Confidence.CORROBORATED,
        recovery_action=action,
    )


@pytest.mark.parametrize(
    ("reason", "action", "steps"),
    [
        ("RecoveryResetGpu", "ResetGpu", LADDER),
        ("Xid95", "DrainAndReset", LADDER),
        ("RowRemapPending", "None", LADDER),
        ("ResetRequired", "Unknown", LADDER),
        ("Xid119", "None", LADDER),
        ("Xid120", "None", LADDER),
        ("Xid95", "None", LADDER),
        ("EarlierFault", "Unknown", LADDER),
        ("Xid79", "None", (REBOOT, REPLACE)),
        ("GpuLost", "Unknown", (REBOOT, REPLACE)),
        ("Xid95", "RebootNode", (REBOOT, REPLACE)),
        ("Xid95", "SystemReboot", (REBOOT, REPLACE)),
        ("RowRemapFailed", "None", (REPLACE,)),
        ("RowRemapFailed", "ResetGpu", (REPLACE,)),
        ("MemoryUnrepairable", "None", (REPLACE,)),
        ("Flapping", "ResetGpu", (REPLACE,)),
        ("NvmlHung", "Unknown", (RESTART, CORDON, REBOOT)),
        ("InitFailed", "Unknown", (RESTART, CORDON, REBOOT)),
        ("Xid95", "DrainP2P", ()),
        ("Xid95", "RecoverImexDomain", ()),
        ("FabricFailed", "None", ()),
        ("RecoveryBusReset", "BusReset", LADDER),
        ("ReportedBad", "None", ()),
        ("ProgramReportedBad", "None", ()),
        ("Xid13", "None", ()),
    ],
)
def test_steps_of_a_cause(reason: str, action: str, steps: tuple[Step, ...]) -> None:
    assert cure(cause(reason, action), Scope.DEVICE).steps == steps


def test_a_fault_of_the_fabric_has_no_step_whatever_its_reason() -> None:
    assert cure(cause("Xid95", "ResetGpu"), Scope.FABRIC).steps == ()


def test_only_a_system_reboot_needs_a_power_cycle() -> None:
    assert cure(cause("Xid95", "SystemReboot"), Scope.DEVICE).power_cycle
    assert [kind for kind in CauseKind if CURES[kind].power_cycle] == [CauseKind.POWER_CYCLE]


def test_the_table_has_a_row_for_each_kind_and_no_row_evicts_by_itself() -> None:
    """Evictions are moves of pods, and heal no GPU."""
    assert set(CURES) == set(CauseKind)
    assert not {Step.EVICT_HOLDERS, Step.EVICT_REFUSED} & {
        step for each in CURES.values() for step in each.steps
    }


def test_every_reason_and_every_recovery_action_has_a_kind() -> None:
    """Complete: an action of the driver is never judged by the reason alone."""
    for entry in entries():
        assert cause_kind(cause(entry.reason)) in CURES
    for name, _ in RECOVERY_ACTIONS.values():
        by_action = cause_kind(cause("ReportedBad", name))
        assert (by_action is CauseKind.OTHER) is (name == "None")
