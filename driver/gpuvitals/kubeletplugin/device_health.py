"""Health reports for the kubelet, one per device. Pure.

The list is always complete: all devices of the snapshot and all prepared devices, including those that have left the
node. Degraded is reported as Healthy with a message; a device without evidence is Unknown.
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
"""Characters; the kubelet truncates longer messages. Source: kubernetes/kubernetes pkg/kubelet/cm/dra/manager.go."""


class KubeletHealth(Enum):
    """The kubelet's health states, with their numbers on the wire."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """One device of the list. `updated` is in Unix seconds, as information: the kubelet records its own time."""

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
                reports[device.device] = _held_report(device, snapshot)
    return tuple(reports[name] for name in sorted(reports))


def _held_report(device: HeldDevice, snapshot: Snapshot | None) -> DeviceReport:
    """The report on the prepared hardware, which may differ from the hardware that has the device name now."""
    found = None if snapshot is None else snapshot.find_held(device.uuid)
    if snapshot is not None and found is not None:
        return _report(device.device, holders_verdict(found), int(snapshot.taken.time.timestamp()))
    missing = "no health reading yet" if snapshot is None else "the device is no longer on this node"
    return DeviceReport(device=device.device, health=KubeletHealth.UNKNOWN, message=missing, updated=0)


def _report(name: str, verdict: Verdict, updated: int) -> DeviceReport:
    return DeviceReport(
        device=name, health=kubelet_health(verdict.state), message=_message(verdict), updated=updated
    )


def all_unknown(reports: tuple[DeviceReport, ...], message: str) -> tuple[DeviceReport, ...]:
    """The same devices, all with the state Unknown and this message."""
    return tuple(
        DeviceReport(
            device=report.device,
            health=KubeletHealth.UNKNOWN,
            message=_truncated(message),
            updated=report.updated,
        )
        for report in reports
    )


def kubelet_health(state: HealthState) -> KubeletHealth:
    """The kubelet's state for a health state."""
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
    """The message for people. It has no score, because each change of the text is a write of the pod's status."""
    if verdict.state is HealthState.HEALTHY and verdict.phase is Phase.STEADY:
        return ""
    return _truncated(f"{verdict.state.value} ({verdict.reason}): {verdict.detail}")


def _truncated(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."
