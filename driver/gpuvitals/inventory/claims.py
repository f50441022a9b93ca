"""The health entries of a ResourceClaim: one entry of `status.devices` for each device prepared on this node."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never

from gpuvitals.health.reasons import PREPARED
from gpuvitals.health.unusable import mig_enabled
from gpuvitals.inventory.device import is_offered
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.next_step import with_next_step
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import ClaimUid, DeviceName, GpuUuid, NodeName
from gpuvitals.model.snapshot import GpuHealth, Snapshot


class ConditionStatus(Enum):
    """Status of a Kubernetes condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A metav1.Condition. `transition_time` is aware and is cut to whole seconds on the wire."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    transition_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRef:
    """A ResourceClaim, by identity and by address."""

    namespace: str
    name: str
    uid: ClaimUid


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDevice:
    """A device that is prepared for a claim on this node, as the checkpoint records it.

    `device` is the name in the claim's allocation; by now another GPU can have that name.
    """

    claim: ClaimRef
    uuid: GpuUuid
    device: DeviceName
    share_id: str | None
    prepared_time: datetime
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEntry:
    """One entry of `status.devices`; (driver, pool, device, share_id) is its key. `data` becomes a JSON object."""

    driver: str
    pool: NodeName
    device: str
    share_id: str | None
    conditions: tuple[Condition, ...]
    data: tuple[tuple[str, str | int], ...]


def claim_entries(
    snapshot: Snapshot, prepared: tuple[PreparedDevice, ...], naming: Naming
) -> dict[ClaimRef, tuple[ClaimEntry, ...]]:
    """Every claim with a device prepared here, with its intended entries, in a stable order.

    A device that is not in the snapshot is omitted: its health is not known.
    """
    entries: dict[ClaimRef, list[ClaimEntry]] = {}
    for device in prepared:
        found = snapshot.find_held(device.uuid)
        if found is not None:
            entries.setdefault(device.claim, []).append(_entry(found, device, snapshot.node, naming))
    return {
        claim: tuple(sorted(listed, key=lambda entry: (entry.device, entry.share_id or "")))
        for claim, listed in sorted(entries.items(), key=lambda item: item[0].uid)
    }


def healthy_status(state: HealthState) -> ConditionStatus:
    """The `Healthy` condition of a state. A degraded GPU still works: True, with the reason that degrades it."""
    match state:
        case HealthState.HEALTHY | HealthState.DEGRADED:
            return ConditionStatus.TRUE
        case HealthState.UNHEALTHY:
            return ConditionStatus.FALSE
        case HealthState.UNKNOWN:
            return ConditionStatus.UNKNOWN
        case _:
            assert_never(state)


def holders_verdict(found: GpuHealth) -> Verdict:
    """The verdict for a claim that holds this device. A claim on the whole GPU can't use it in MIG mode."""
    return found.verdict if is_offered(found.gpu) else mig_enabled(found.verdict)


def _entry(found: GpuHealth, device: PreparedDevice, node: NodeName, naming: Naming) -> ClaimEntry:
    verdict = holders_verdict(found)
    # A GPU that a policy keeps in service could be allocated to the same owner again.
    is_left = verdict.state is HealthState.UNHEALTHY and not found.spared
    ready = Condition(
        type="Ready",
        status=ConditionStatus.TRUE,
        reason=PREPARED,
        message="the device is prepared on this node",
        transition_time=device.prepared_time,
    )
    healthy = Condition(
        type="Healthy",
        status=healthy_status(verdict.state),
        reason=verdict.reason,
        message=with_next_step(verdict.message) if is_left else verdict.message,
        transition_time=max(found.state_since, device.prepared_time),
    )
    return ClaimEntry(
        driver=naming.driver,
        pool=node,
        device=device.device,
        share_id=device.share_id,
        conditions=(healthy, ready),
        data=_data(found, verdict),
    )


def _data(found: GpuHealth, verdict: Verdict) -> tuple[tuple[str, str | int], ...]:
    pairs: list[tuple[str, str | int]] = [
        ("uuid", found.gpu.uuid),
        ("pciBusID", found.gpu.bus_id),
        *([] if found.gpu.mig is None else [("parentUUID", found.gpu.mig.parent)]),
        ("score", verdict.score),
        ("state", verdict.state.value),
        ("lastXid", verdict.last_xid),
    ]
    if verdict.last_fault_time is not None:
        pairs.append(("lastFaultTime", verdict.last_fault_time.strftime("%Y-%m-%dT%H:%M:%SZ")))
    return tuple(pairs)
