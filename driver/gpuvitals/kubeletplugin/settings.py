"""Settings of the kubelet edge. The defaults fit a kubelet with the default root directory."""

from dataclasses import dataclass, field
from pathlib import Path

from gpuvitals.inventory.naming import Naming
from gpuvitals.model.ids import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverRootSettings:
    """Paths of the NVIDIA driver on the node and in containers.

    A `*_on_host` path is the same folder as the container runtime sees it; None if both paths are equal.
    `library_directories`, below the driver root, are searched before the known ones. With `require_character_devices`
    False, regular files are accepted as device nodes: in simulations only, because a runtime reads a node's major and
    minor number when it injects it. `container_library_directories` None means the two directories that the loaders of
    Debian and Red Hat images search without a cache.
    """

    driver_root: Path = Path("/")
    driver_root_on_host: Path | None = None
    dev_root: Path = Path("/")
    dev_root_on_host: Path | None = None
    proc_root: Path = Path("/proc")
    library_directories: tuple[str, ...] = ()
    container_library_directories: tuple[str, ...] | None = None
    require_character_devices: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds and periods.

    - `max_streams`, `max_prepares`, `max_unprepares`: each stream and call occupies a thread, so each kind has its own
      bound and can't take the threads of another kind. `spare_calls` are threads for calls that are answered at once:
      the liveness probe, and calls over their bound.
    - `max_parked`: claims that may wait at the same time for a cause to clear; further ones are refused at once.
    - `transient_wait_seconds`: longest wait for a cause to clear, because the kubelet retries only after 60 to 80 s. It
      ends `deadline_margin_seconds` before the call's own deadline.
    - `stale_tick_seconds`: an agent loop without a turn for longer counts as stalled.
    - `orphan_grace_seconds`: longer than any call, so that the file of a call in another process is not removed.
    - `stale_checks`: consecutive checks, `claim_check_seconds` apart, after which a claim that is gone from the API
      server is released.
    - `confirmed_seconds`: a claim's devices are not compared with the API server again for this long; a kubelet whose
      call timed out retries at once.
    - `tombstone_seconds`: longer than any late call can last.
    - `standby_seconds`: longer than a rolling update keeps two instances side by side.
    """

    max_streams: int = 8
    max_prepares: int = 96
    max_unprepares: int = 32
    spare_calls: int = 8
    max_parked: int = 64
    transient_wait_seconds: float = 40.0
    deadline_margin_seconds: float = 4.0
    heartbeat_seconds: float = 4.0
    health_timeout_seconds: int = 15
    stale_tick_seconds: float = 10.0
    connected_seconds: float = 15.0
    lock_wait_seconds: float = 10.0
    orphan_grace_seconds: float = 120.0
    watch_seconds: float = 1.0
    reconcile_seconds: float = 60.0
    claim_check_seconds: float = 300.0
    confirmed_seconds: float = 10.0
    stale_checks: int = 3
    tombstone_seconds: float = 600.0
    standby_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings:
    """Paths and names. With a `pod_uid` two instances may overlap in a rolling update, without one they may not.

    `data_directory` must not be shared with another driver. Data and registry directory are below the kubelet's root.
    """

    node: NodeName
    naming: Naming = field(default_factory=Naming)
    data_directory: Path
    registry_directory: Path = Path("/var/lib/kubelet/plugins_registry")
    cdi_directory: Path = Path("/var/run/cdi")
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
    pod_uid: str = ""
    driver_root: DriverRootSettings = field(default_factory=DriverRootSettings)
    limits: Limits = field(default_factory=Limits)
