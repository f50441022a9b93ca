"""Builds the events of the node agent, one for each transition. Pure."""

from collections.abc import Mapping

from gpuvitals.inventory.event import Event
from gpuvitals.inventory.policy_match import PolicyMatch
from gpuvitals.model.files import Lack
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthState, Phase, Verdict
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import (
    ExternalReport,
    GapReport,
    GpuSignal,
    MonitorReport,
    MonitorState,
    OffBusReport,
    Signal,
    XidReport,
)
from gpuvitals.node.state_store import Memory

_SEVERITY = {
    HealthState.HEALTHY: 0,
    HealthState.UNKNOWN: 1,
    HealthState.DEGRADED: 2,
    HealthState.UNHEALTHY: 3,
}


def is_new_fault(before: Verdict | None, now: Verdict) -> bool:
    """Whether the change is a new fault for the cluster: another cause or a worse state of a faulty GPU."""
    if now.state not in (HealthState.DEGRADED, HealthState.UNHEALTHY) or now.phase is Phase.PROBATION:
        return False
    if before is None:
        return True
    return now.reason != before.reason or _SEVERITY[now.state] > _SEVERITY[before.state]


def verdict_event(gpu: Gpu, before: Verdict | None, now: Verdict, *, isolated: bool = False) -> Event | None:
    """`GpuUnhealthy`, `GpuDegraded`, `GpuUnknown` or `GpuHealthy`; None if the state has not changed."""
    if before is None and now.state in (HealthState.HEALTHY, HealthState.UNKNOWN):
        # The first verdict of a GPU is worth an event only if it is a fault.
        return None
    if before is not None and before.state is now.state:
        return None
    text = _with_reason(now) if now.message else "the readings are good again"
    return Event(
        reason=f"Gpu{now.state.value}",
        message=f"gpu {gpu.uuid} ({gpu.bus_id}): {text}",
        warning=now.state is not HealthState.HEALTHY,
        gpu=gpu.uuid,
        has_next_step=isolated and now.state is HealthState.UNHEALTHY,
    )


def _with_reason(verdict: Verdict) -> str:
    """The verdict's message, prefixed with the reason unless it begins with it."""
    is_named = verdict.detail != verdict.message
    return verdict.message if is_named else f"{verdict.reason}: {verdict.message}"


def gap_event(gap: GapReport) -> Event:
    """Records of a source were lost."""
    message = f"{gap.source.value}: {gap.lost} records were lost or not readable; every GPU is read again"
    return Event(reason="SignalGap", message=message)


def monitor_event(report: MonitorReport, before: MonitorState | None) -> Event | None:
    """A source that became unreadable, or readable again; None if it was readable from the start or is unchanged."""
    if report.state is before or (before is None and report.state is MonitorState.WATCHING):
        return None
    if report.state is MonitorState.WATCHING:
        message = f"{report.source.value} recovered: {report.detail or 'it can be read'}"
        return Event(reason="MonitorWatching", message=message, warning=False)
    message = f"{report.source.value} is {report.state.value}: {report.detail}; the other sources continue"
    return Event(reason="MonitorBlind", message=message)


def unattributed_event(signal: GpuSignal) -> Event | None:
    """A fault that names no GPU of this node. No device is touched for it, so an operator has to check."""
    match signal:
        case XidReport():
            fault = f"XID {signal.code}"
        case OffBusReport():
            fault = "a GPU that has fallen off the bus"
        case _:
            return None
    named = signal.uuid or signal.bus_id
    name = f"for {named}, which matches no GPU of this node" if named else "without the name of a GPU"
    message = f"{signal.source.value} reports {fault} {name}; no device is touched"
    return Event(reason="UnattributedFault", message=message)


def replaced_event(slot: PciBusId, before: GpuUuid, now: GpuUuid, *, is_here: bool) -> Event:
    """Another GPU was enumerated in a slot. `is_here`: the previous GPU is in another slot of this node."""
    then = (
        f"gpu {before} is in another slot of this node"
        if is_here
        else f"the health of gpu {before} is kept; gpuvitals forget {before} removes it"
    )
    message = f"slot {slot} holds gpu {now} in place of gpu {before}; {then}"
    return Event(reason="GpuReplaced", message=message, warning=not is_here)


def memory_recovered(memory: Memory) -> Event:
    """The agent's memory could not be read in full. `memory.trouble` names the file, and both versions if they differ."""
    message = (
        f"{memory.trouble}; the readable part is used, GPUs that are published as out of service stay out, "
        "and no file of a newer version is overwritten"
    )
    return Event(reason="HealthStateRecovered", message=message)


def storage_event(failure: str) -> Event:
    """A state file can't be written; with an empty text, every state file is written again."""
    if not failure:
        message = "every state file is written again"
        return Event(reason="StorageRecovered", message=message, warning=False)
    message = f"{failure}; faults are still published, but a restart of the agent would lose the newest ones"
    return Event(reason="StorageFailed", message=message)


def lack_events(before: Mapping[GpuUuid, Lack], now: Mapping[GpuUuid, Lack]) -> tuple[Event, ...]:
    """Missing files of the driver, one event per cause; or the end of every lack."""
    reported = set(before.values())
    new = [lack for lack in dict.fromkeys(now.values()) if lack not in reported]
    found = [
        Event(
            reason=lack.reason,
            message=f"{_devices(sum(each == lack for each in now.values()))} out of service: {lack.message}",
        )
        for lack in new
    ]
    if before and not now:
        message = "the files of the driver that were missing are there; claims can be prepared again"
        found.append(Event(reason="DriverFilesFound", message=message, warning=False))
    return tuple(found)


def _devices(count: int) -> str:
    return "1 device can't be prepared and is" if count == 1 else f"{count} devices can't be prepared and are"


def conflict_event(conflict: str) -> Event:
    """Another driver allocates this node's GPUs; with an empty text, no longer."""
    if not conflict:
        message = "no other driver allocates this node's GPUs any more; they are published"
        return Event(reason="OtherDriverGone", message=message, warning=False)
    message = f"{conflict}; no GPU of this node is published until that ends"
    return Event(reason="OtherDriver", message=message)


def policy_refused(name: str, why: str, *, has_fallback: bool) -> Event:
    """An invalid GPUHealthPolicy. `has_fallback`: an earlier version of it is still in force."""
    then = "the last good version of it stays in force" if has_fallback else "it has no effect on this node"
    return Event(reason="PolicyInvalid", message=f"policy {name}: {why}; {then}")


def policy_ambiguous(gpu: Gpu, match: PolicyMatch) -> Event:
    """Policies of equal priority match a GPU and disagree."""
    winner = match.rule.name if match.rule is not None else "the agent's own file"
    mode = match.rule.mode.value if match.rule is not None else "Isolate"
    message = (
        f"policies {', '.join(match.tied)} have the same priority and all match gpu {gpu.uuid}; "
        f"{winner} in mode {mode} stays in force until one has a higher spec.priority"
    )
    return Event(reason="PolicyAmbiguous", message=message)


def report_refused(place: str, why: str) -> Event:
    """An invalid report about a GPU; earlier valid ones stay in force."""
    return Event(reason="ReportInvalid", message=f"{place}: {why}; nothing changes for it")


def unattributed_report(report: ExternalReport) -> Event:
    """A report that names no GPU of this node."""
    message = (
        f"{report.by} reports gpu {report.gpu} as {report.state.value}, which matches no GPU of this node; "
        "expected a device name, a UUID or a PCI bus id"
    )
    return Event(reason="UnattributedReport", message=message)


def failed_event(signal: Signal, error: Exception) -> Event:
    """A signal that the agent failed to evaluate: a defect of the agent, which may hide a fault."""
    kind = type(signal).__name__
    message = (
        f"{signal.source.value} {kind} not evaluated: {type(error).__name__}: {error}; see the agent's log"
    )
    return Event(reason="SignalNotJudged", message=message)
