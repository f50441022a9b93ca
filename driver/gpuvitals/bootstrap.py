"""The node agent's options, needed to open its sockets. Standard library only, because the kubelet does not wait."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_STATE_DIRECTORY = Path("/var/lib/kubelet/plugins/gpu.vitals.internal")
"""The agent's folder on a node with the default kubelet root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """Paths and addresses of one node agent. The defaults are those of a real node.

    A `*_on_host` path is the same folder as the container runtime sees it; None if both paths are equal.
    """

    node: str
    state_directory: Path
    registry_directory: Path = Path("/var/lib/kubelet/plugins_registry")
    cdi_directory: Path = Path("/var/run/cdi")
    driver_root: Path = Path("/")
    driver_root_on_host: Path | None = None
    driver_libraries: tuple[str, ...] = ()
    dev_root: Path = Path("/")
    dev_root_on_host: Path | None = None
    proc_root: Path = Path("/proc")
    sysfs_root: Path = Path("/sys")
    kernel_log: Path = Path("/dev/kmsg")
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
    reports_directory: Path | None = None
    record_signals: Path | None = None
    node_address: str = ""
    config: Path | None = None
    kubeconfig: Path | None = None
    account_directory: Path | None = None
    server: str = ""
    pod_uid: str = ""
    probe_address: tuple[str, int] = ("127.0.0.1", 0)
    nvml_backend: str = ""
    accept_user_kernel_lines: bool = False
    simulated: bool = False
