"""The configuration of a simulated kubelet, and the views of its state.

Place in the chain: created by `gpuvitals_sim.cluster` or a test for `Kubelet`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuvitals_sim.kubelet.timings import KubeletTimings

DRA_SERVICES = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
HEALTH_SERVICES = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfig:
    """One node's kubelet.

    Plugins register below `root/plugins_registry`. CDI specs are read from `cdi_dirs`, a later folder wins. `seed` decides
    the random choices of the real kubelet: order of wipe and GetInfo, jitter of the pod sync, favourite after a restart.
    An older kubelet supports fewer services, and no health service if its gate is off.
    """

    node_name: str
    root: Path
    cdi_dirs: tuple[Path, ...]
    timings: KubeletTimings = field(default_factory=KubeletTimings)
    seed: int = 0
    dra_services: tuple[str, ...] = DRA_SERVICES
    health_services: tuple[str, ...] = HEALTH_SERVICES

    @property
    def registry_dir(self) -> Path:
        """The folder of the plugins' registration sockets."""
        return self.root / "plugins_registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A running container with its CDI IDs and the merged edits of their specs."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    cdi_ids: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    device_nodes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    hooks: tuple[dict[str, Any], ...] = ()
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginView:
    """One registered plugin instance; `favourite` gets the calls of its driver. `registered_at`: time.monotonic()."""

    driver: str
    endpoint: str
    dra_version: str
    health_version: str
    connected: bool
    favourite: bool
    registered_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to a plugin, for tests and the demo: method, claim UIDs, outcome (`OK`, a gRPC code), and times."""

    method: str
    driver: str
    endpoint: str
    claims: tuple[str, ...] = ()
    outcome: str = "OK"
    started_at: float = 0.0
    seconds: float = 0.0
