"""The kubelet edge's settings. All have defaults that fit a kubelet with its usual root directory."""

from dataclasses import dataclass, field
from pathlib import Path

from gpuvitals.inventory.naming import Naming
from gpuvitals.model.ids import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverRootSettings:
    """Where the NVIDIA driver is found, and what of it a container sees.

    A `*_on_host` path is the same place as the container runtime sees it, where that differs from this container's
    view. `library_directories`, below the driver root, are searched before the known ones. `require_character_devices` False accepts regular files in place of device nodes: for simulations only,
    since a runtime reads a node's major and minor numbers when it injects it. `container_library_directories` None
    chooses the directories that every glibc searches without a cache: the Debian and the Red Hat one.
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
    """How much and how long, in seconds where the name says so.

    Streams and calls each park a thread, so each kind has a bound of its own, and none can take the threads of
    another. `spare_calls` are for what is answered at once: the liveness probe, and the refusal of a call over its
    bound. `max_parked` claims wait at once for a cause that can pass; more are refused with that cause.
    `transient_wait_seconds`: how long one call waits for a cause that can pass, because the kubelet asks again only
    after 60 to 80 s; it ends `deadline_margin_seconds` before the call's own deadline. `stale_tick_seconds`: an agent
    loop that stood still for longer is not believed. `orphan_grace_seconds` is longer than any call, so that a file
    of a call in another process is never taken for an orphan. `stale_checks` in a row, `claim_check_seconds` apart,
    collect a claim that is gone from the API. `confirmed_seconds`: for so long a claim is believed to have the devices
    that the API server last named; a kubelet whose call was cut off asks again at once. `tombstone_seconds` is longer than any late call can live.
    `standby_seconds`: an instance that stands by for so long is not part of a rolling update.
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
    """Paths and names. With a `pod_uid` two instances may overlap (rolling update); without one, never.

    `data_directory` must not be shared with another driver; both kubelet directories follow the kubelet's root-dir.
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
