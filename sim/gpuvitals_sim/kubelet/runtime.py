"""The container runtime: sandboxes and containers, which survive the kubelet and end with the node.

Place in the chain: pod workers start and end containers here; tests read the devices of a container.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.kubelet.cdi import resolve
from gpuvitals_sim.kubelet.config import ContainerView


class Runtime:
    """Sandboxes by pod UID, each with its running containers. Thread safe."""

    def __init__(self, cdi_dirs: Sequence[Path]) -> None:
        self._cdi_dirs = tuple(cdi_dirs)
        self._lock = threading.Lock()
        self._sandboxes: dict[str, dict[str, ContainerView]] = {}
        self._restarts: dict[tuple[str, str], int] = {}

    def has_sandbox(self, pod_uid: str) -> bool:
        """Whether the pod has a sandbox; without one, its claims are prepared before the next."""
        return pod_uid in self._sandboxes

    def create_sandbox(self, pod_uid: str) -> None:
        """Creates an empty sandbox."""
        with self._lock:
            self._sandboxes.setdefault(pod_uid, {})

    def start(self, pod: Obj, container: str, cdi_ids: Sequence[str]) -> None:
        """Starts a container with these devices. Raises InjectionFailed."""
        edits = resolve(self._cdi_dirs, cdi_ids)
        metadata = pod["metadata"]
        with self._lock:
            self._sandboxes[metadata["uid"]][container] = ContainerView(
                namespace=metadata["namespace"],
                pod=metadata["name"],
                pod_uid=metadata["uid"],
                container=container,
                cdi_ids=tuple(cdi_ids),
                env=tuple(edits.env),
                device_nodes=tuple(edits.device_nodes),
                mounts=tuple(edits.mounts),
                hooks=tuple(edits.hooks),
                restarts=self._restarts.get((metadata["uid"], container), 0),
            )

    def is_running(self, pod_uid: str, container: str) -> bool:
        """Whether the container runs."""
        return container in self._sandboxes.get(pod_uid, {})

    def crash(self, pod_uid: str, container: str) -> None:
        """Ends one container; the pod worker starts it again."""
        with self._lock:
            if self._sandboxes.get(pod_uid, {}).pop(container, None) is not None:
                key = (pod_uid, container)
                self._restarts[key] = self._restarts.get(key, 0) + 1

    def end(self, pod_uid: str) -> None:
        """Ends a sandbox with its containers."""
        with self._lock:
            self._sandboxes.pop(pod_uid, None)

    def end_all(self) -> None:
        """Ends all sandboxes, as a reboot does."""
        with self._lock:
            self._sandboxes = {}

    def containers(self) -> tuple[ContainerView, ...]:
        """The running containers."""
        with self._lock:
            return tuple(view for sandbox in self._sandboxes.values() for view in sandbox.values())
