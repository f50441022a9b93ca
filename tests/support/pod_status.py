"""Readers of a pod's status, for tests that compare the simulated kubelet with the real one."""

from typing import Any

Json = dict[str, Any]

_SANDBOX = "PodReadyToStartContainers"
_CONDITIONS = {
    "Initialized": ("True", "", ""),
    "Ready": ("False", "ContainersNotReady", "containers with unready status: [main]"),
    "ContainersReady": ("False", "ContainersNotReady", "containers with unready status: [main]"),
    "PodScheduled": ("True", "", ""),
}
WAITING: Json = {
    "phase": "Pending",
    "conditions": {**_CONDITIONS, _SANDBOX: ("False", "PodSandboxNotReady", "no pod sandbox exists")},
    "state": ("waiting", "ContainerCreating", None),
    "health": [],
}
"""A pod whose claim can't be prepared yet."""
HELD_UP: Json = {
    "phase": "Running",
    "conditions": {**_CONDITIONS, _SANDBOX: ("False", "PodSandboxNotReady", "pod sandbox is not ready")},
    "state": ("terminated", "Error", 137),
    "health": ["Unknown"],
}
"""A deleted pod whose container has ended and whose claim is not unprepared."""


def as_of(release: str, words: Json) -> Json:
    """WAITING or HELD_UP in the words of that release's kubelet: before 1.37 no reason is given for a sandbox."""
    if release == "1.37":
        return words
    return {**words, "conditions": {**words["conditions"], _SANDBOX: ("False", "", "")}}


def shown(pod: Json) -> Json:
    """Phase, conditions, state of the one container and the health of its devices, without times and ids."""
    status = pod["status"]
    (container,) = status["containerStatuses"]
    ((state, detail),) = container["state"].items()
    return {
        "phase": status["phase"],
        "conditions": {
            one["type"]: (one["status"], one.get("reason", ""), one.get("message", ""))
            for one in status["conditions"]
        },
        "state": (state, detail.get("reason"), detail.get("exitCode")),
        "health": [
            one["health"]
            for entry in container.get("allocatedResourcesStatus") or ()
            for one in entry["resources"]
        ],
    }


def nobody_listens(socket: str) -> str:
    """The pod's event after the driver's process has died and its socket still exists."""
    dialled = f"transport: Error while dialing: dial unix {socket}: connect: connection refused"
    return f'rpc error: code = Unavailable desc = connection error: desc = "{dialled}"'
