"""`PodContainers`: starts and ends the containers of one pod and keeps their states for the pod status.

Place in the chain: under `pod_worker.py`; the container runtime resolves the CDI devices.
"""

from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.kubelet.cdi import InjectionFailed
from gpuvitals_sim.kubelet.pod_api import NodeContext, PodApi
from gpuvitals_sim.kubelet.pod_status import ContainerState, Phase
from gpuvitals_sim.kubelet.preparer import container_uses


class PodContainers:
    """The containers of one pod. Used by the pod worker's thread only. `states` is keyed by container name."""

    def __init__(self, node: NodeContext, api: PodApi, uid: str) -> None:
        self._node = node
        self._api = api
        self._uid = uid
        self.states: dict[str, ContainerState] = {}

    @property
    def running(self) -> bool:
        """Whether a container runs."""
        return any(state.running_since for state in self.states.values())

    @property
    def ended(self) -> bool:
        """Whether a container has ended."""
        return any(state.exit_code is not None for state in self.states.values())

    @property
    def ended_phase(self) -> Phase:
        """The phase of a pod whose containers have all ended."""
        clean = all(state.exit_code == 0 for state in self.states.values())
        return "Succeeded" if clean else "Failed"

    def start(self, pod: Obj) -> bool:
        """Starts the containers that do not run. False if the devices of one could not be injected."""
        results = [self._start(pod, container) for container in pod["spec"]["containers"]]
        return all(results)

    def end(self, pod: Obj, exit_code: int) -> None:
        """Ends the sandbox and all containers with this exit code."""
        self._node.runtime.end(self._uid)
        for container in pod["spec"]["containers"]:
            before = self.states.get(container["name"], ContainerState())
            self.states[container["name"]] = ContainerState(
                exit_code=exit_code, ended_at=timestamp(), restarts=before.restarts
            )

    def _start(self, pod: Obj, container: Obj) -> bool:
        name = container["name"]
        before = self.states.get(name, ContainerState())
        if self._node.runtime.is_running(self._uid, name):
            if not before.running_since:
                since = self._api.running_since(name)
                self.states[name] = ContainerState(running_since=since, restarts=self._restarts(name))
            return True
        try:
            self._node.runtime.start(pod, name, self._cdi_ids(pod, container))
        except InjectionFailed as error:
            self.states[name] = ContainerState(
                waiting="CreateContainerError", waiting_message=str(error), restarts=before.restarts
            )
            self._api.warn(pod, "Failed", f"Error: {error}")
            return False
        self.states[name] = ContainerState(running_since=timestamp(), restarts=self._restarts(name))
        return True

    def _cdi_ids(self, pod: Obj, container: Obj) -> list[str]:
        """CDI IDs of the container's claims, each once, in the order of the claims."""
        claims = self._node.claims_of(pod)
        ids: list[str] = []
        for name, request in container_uses(pod, container):
            info = claims.get(name)
            for _, device in info.devices_for(request) if info is not None else ():
                ids += [one for one in device.cdi_ids if one not in ids]
        return ids

    def _restarts(self, container: str) -> int:
        running = self._node.runtime.containers()
        return next(
            (one.restarts for one in running if (one.pod_uid, one.container) == (self._uid, container)), 0
        )
