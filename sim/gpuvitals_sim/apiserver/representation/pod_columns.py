"""The printer columns READY, STATUS and RESTARTS of a pod.

Place in the chain: `printer_columns.py` uses them. Source: kubernetes/kubernetes pkg/printers/internalversion (printPod).
"""

from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.representation.durations import age


def pod_ready(pod: Obj) -> str:
    """`1/2`: containers that are ready and running, of all."""
    ready = sum(
        1 for entry in _statuses(pod) if entry.get("ready") and dig(entry, "state", "running") is not None
    )
    sidecars = [
        item for item in dig(pod, "spec", "initContainers") or () if item.get("restartPolicy") == "Always"
    ]
    return f"{ready}/{len(dig(pod, 'spec', 'containers') or ()) + len(sidecars)}"


def pod_status(pod: Obj) -> str:
    """The pod's STATUS: its phase, or the reason that keeps it from running."""
    phase = dig(pod, "status", "phase") or ""
    if "deletionTimestamp" in pod["metadata"]:
        if dig(pod, "status", "reason") == "NodeLost":
            return "Unknown"
        if phase not in ("Succeeded", "Failed"):
            return "Terminating"
    reason = dig(pod, "status", "reason") or phase
    if any(
        entry.get("reason") == "SchedulingGated"
        for entry in _conditions(pod)
        if entry["type"] == "PodScheduled"
    ):
        reason = "SchedulingGated"
    starting = _init_reason(pod)
    return starting or _container_reason(pod, reason)


def pod_restarts(pod: Obj) -> str:
    """`3 (5m ago)`: restarts of all containers, and the time since the last one."""
    count = sum(entry.get("restartCount") or 0 for entry in _statuses(pod))
    ends = [dig(entry, "lastState", "terminated", "finishedAt") for entry in _statuses(pod)]
    last = max((end for end in ends if end), default=None)
    return f"{count} ({age(last)} ago)" if count and last else str(count)


def _init_reason(pod: Obj) -> str:
    if any(entry["type"] == "Initialized" and entry.get("status") == "True" for entry in _conditions(pod)):
        return ""
    total = len(dig(pod, "spec", "initContainers") or ())
    for place, entry in enumerate(dig(pod, "status", "initContainerStatuses") or ()):
        ended, waiting = dig(entry, "state", "terminated"), dig(entry, "state", "waiting")
        if ended is not None:
            if ended.get("exitCode") == 0:
                continue
            return f"Init:{ended.get('reason') or _exit(ended)}"
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{place}/{total}"
    return ""


def _container_reason(pod: Obj, reason: str) -> str:
    has_running, failed = False, ""
    for entry in reversed(_statuses(pod)):
        waiting, ended = dig(entry, "state", "waiting"), dig(entry, "state", "terminated")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
        elif ended is not None:
            reason = ended.get("reason") or _exit(ended)
            if ended.get("exitCode"):
                failed = reason
        elif entry.get("ready") and dig(entry, "state", "running") is not None:
            has_running = True
    if reason != "Completed":
        return reason
    is_ready = any(entry["type"] == "Ready" and entry.get("status") == "True" for entry in _conditions(pod))
    if has_running and is_ready:
        return "Running"
    return failed or ("NotReady" if has_running else reason)


def _exit(ended: Obj) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _statuses(pod: Obj) -> list[Obj]:
    return dig(pod, "status", "containerStatuses") or []


def _conditions(pod: Obj) -> list[Obj]:
    return dig(pod, "status", "conditions") or []
