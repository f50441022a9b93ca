"""What the kubelet is told about each device. Pure.

The list is always complete: every device of the snapshot, and every prepared device, also one that has left the node.
Degraded is healthy to the kubelet, with a message; absence of evidence is Unknown, said out loud.
"""

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from gpuvitals.inventory.claims import holders_verdict
from gpuvitals.inventory.device import device_name, is_offered
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.model.health import HealthState, Phase, Verdict
from gpuvitals.model.snapshot import Snapshot

MAX_MESSAGE = 1024
"""Characters; the kubelet cuts longer ones. Source: kubernetes/kubernetes pkg/kubelet/cm/dra/manager.go."""


class KubeletHealth(Enum):
    """The kubelet's three states, with the numbers of the wire."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """One device of the list. `updated` is Unix seconds, for people: the kubelet stamps its own time."""

    device: str
    health: KubeletHealth
    message: str
    updated: int


def device_reports(snapshot: Snapshot | None, prepared: tuple[HeldClaim, ...]) -> tuple[DeviceReport, ...]:
    """The complete list, sorted by device name. Without a snapshot every prepared device is Unknown."""
    reports: dict[str, DeviceReport] = {}
    if snapshot is not None:
        updated = int(snapshot.taken.time.timestamp())
        for entry in snapshot.gpus:
            if is_offered(entry.gpu) and not entry.withheld:
                name = device_name(entry.gpu)
                reports[name] = _report(name, entry.verdict, updated)
    for held in prepared:
        for device in held.devices:
            if not device.admin or device.device not in reports:
                reports[device.device] = _of_holder(device, snapshot)
    return tuple(reports[name] for name in sorted(reports))


def _of_holder(device: HeldDevice, snapshot: Snapshot | None) -> DeviceReport:
    """The report on the hardware that is prepared, which need not be the hardware that has the name now."""
    found = None if snapshot is None else snapshot.find_held(device.uuid)
    if snapshot is not None and found is not None:
        return _report(device.device, holders_verdict(found), int(snapshot.taken.time.timestamp()))
    missing = "no health reading yet" if snapshot is None else "the device is not on this node any more"
    return DeviceReport(device=device.device, health=KubeletHealth.UNKNOWN, message=missing, updated=0)


def _report(name: str, verdict: Verdict, updated: int) -> DeviceReport:
    return DeviceReport(
        device=name, health=kubelet_health(verdict.state), message=_message(verdict), updated=updated
    )


def all_unknown(reports: tuple[DeviceReport, ...], message: str) -> tuple[DeviceReport, ...]:
    """The same devices, of none of which anything is known now."""
    return tuple(
        DeviceReport(
            device=report.device,
            health=KubeletHealth.UNKNOWN,
            message=_cut(message),
            updated=report.updated,
        )
        for report in reports
    )


def kubelet_health(state: HealthState) -> KubeletHealth:
    """The kubelet's word for a state."""
    match state:
        case HealthState.HEALTHY | HealthState.DEGRADED:
            return KubeletHealth.HEALTHY
        case HealthState.UNHEALTHY:
            return KubeletHealth.UNHEALTHY
        case HealthState.UNKNOWN:
            return KubeletHealth.UNKNOWN
        case _:
            assert_never(state)


def _message(verdict: Verdict) -> str:
    """For a person. Without the score: each change of the text is a write of the pod's status."""
    if verdict.state is HealthState.HEALTHY and verdict.phase is Phase.STEADY:
        return ""
    return _cut(f"{verdict.state.value} ({verdict.reason}): {verdict.detail}")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."
