"""The pod status of the kubelet: phase, conditions, containers, and the health of their devices.

Place in the chain: `pod_api.py` patches the result. Pure.
Source: kubernetes/kubernetes pkg/kubelet/status/generate.go and pkg/kubelet/cm/dra/manager.go; observed on 1.37.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.kubelet.claim_cache import ClaimInfo
from gpuvitals_sim.kubelet.device_health import HealthCache

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container: running, waiting for a reason, or ended with a code."""

    running_since: str = ""
    waiting: str = "ContainerCreating"
    waiting_message: str = ""
    exit_code: int | None = None
    ended_at: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """The state of a pod on the node. `claims` are keyed by the names in the pod's spec."""

    phase: Phase = "Pending"
    sandbox: bool = False
    started_at: str
    now: str
    containers: Mapping[str, ContainerState] = field(default_factory=dict)
    claims: Mapping[str, ClaimInfo] = field(default_factory=dict)


def pod_status(pod: Obj, before: Obj, state: PodState, health: HealthCache) -> Obj:
    """The status to patch in. A condition that is unchanged since `before` keeps its transition time."""
    unready = [name for name in _names(pod) if not _is_ready(state, name)]
    conditions: list[Obj] = [
        {"type": "PodReadyToStartContainers", **_sandbox(state)},
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", **_readiness(state, unready)},
        {"type": "ContainersReady", **_readiness(state, unready)},
        {"type": "PodScheduled", "status": "True"},
    ]
    present = {one["type"]: one for one in before.get("conditions") or ()}
    return {
        "phase": state.phase,
        "startTime": state.started_at,
        "conditions": [_with_times(one, present.get(one["type"]), state.now) for one in conditions],
        "containerStatuses": [
            _container_status(container, state, health) for container in pod["spec"]["containers"]
        ],
    }


def resources_status(container: Obj, state: PodState, health: HealthCache) -> list[Obj]:
    """`allocatedResourcesStatus` of the container: `claim:<name>[/<request>]`, one resource per ID."""
    entries = []
    for used in (container.get("resources") or {}).get("claims") or ():
        info = state.claims.get(used["name"])
        if info is None:
            continue
        request = used.get("request", "")
        resources: dict[str, Obj] = {}
        for driver, device in info.devices_for(request):
            shown = health.look((driver, device.pool, device.device))
            identity = device.cdi_ids[0] if device.cdi_ids else f"{driver}/{device.pool}/{device.device}"
            entry: Obj = {"resourceID": identity, "health": shown.health}
            if shown.message:
                entry["message"] = shown.message
            resources[identity] = entry
        name = f"claim:{used['name']}" + (f"/{request}" if request else "")
        entries.append({"name": name, "resources": list(resources.values())})
    return entries


def without_nulls(status: Obj) -> Obj:
    """The status as the server stores it: a null in a patch removes the field."""
    conditions = [
        {key: value for key, value in one.items() if value is not None} for one in status["conditions"]
    ]
    return {**status, "conditions": conditions}


def _names(pod: Obj) -> list[str]:
    return [str(container["name"]) for container in pod["spec"]["containers"]]


def _is_ready(state: PodState, name: str) -> bool:
    return bool(state.containers.get(name, ContainerState()).running_since)


def _sandbox(state: PodState) -> Obj:
    if state.sandbox:
        return {"status": "True"}
    message = "pod sandbox is not ready" if state.containers else "no pod sandbox exists"
    return {"status": "False", "reason": "PodSandboxNotReady", "message": message}


def _readiness(state: PodState, unready: list[str]) -> Obj:
    if state.phase == "Succeeded":
        return {"status": "False", "reason": "PodCompleted"}
    if not unready:
        return {"status": "True"}
    message = f"containers with unready status: [{' '.join(unready)}]"
    return {"status": "False", "reason": "ContainersNotReady", "message": message}


def _container_status(container: Obj, state: PodState, health: HealthCache) -> Obj:
    one = state.containers.get(container["name"], ContainerState())
    running = bool(one.running_since)
    status: Obj = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": running,
        "started": running,
        "restartCount": one.restarts,
        "state": _state(one),
    }
    resources = resources_status(container, state, health)
    if resources:
        status["allocatedResourcesStatus"] = resources
    return status


def _state(one: ContainerState) -> Obj:
    if one.exit_code is not None:
        reason = "Completed" if one.exit_code == 0 else "Error"
        ended: Obj = {"exitCode": one.exit_code, "reason": reason, "finishedAt": one.ended_at}
        return {"terminated": ended}
    if one.running_since:
        return {"running": {"startedAt": one.running_since}}
    waiting: Obj = {"reason": one.waiting}
    if one.waiting_message:
        waiting["message"] = one.waiting_message
    return {"waiting": waiting}


def _with_times(condition: Obj, present: Obj | None, now: str) -> Obj:
    shown: Obj = {**condition, "lastTransitionTime": now}
    if present is not None:
        if present["status"] == condition["status"]:
            shown["lastTransitionTime"] = present.get("lastTransitionTime") or now
        shown |= {key: None for key in ("reason", "message") if present.get(key) and key not in condition}
    return shown
