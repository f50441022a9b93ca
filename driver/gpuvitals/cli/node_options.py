"""The flags for the folders and files of a node, shared by the agent and the checks of `gpuvitals doctor`."""

import argparse
import os
from pathlib import Path

from gpuvitals.bootstrap import DEFAULT_STATE_DIRECTORY, NodeOptions
from gpuvitals.cli.errors import UsageError


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """Adds them, with the defaults of a real node."""
    parser.add_argument("--node-name", default=os.environ.get("NODE_NAME", ""), help="default: $NODE_NAME")
    parser.add_argument("--pod-uid", default=os.environ.get("POD_UID", ""), help="default: $POD_UID")
    parser.add_argument("--node-ip", default=os.environ.get("NODE_IP", ""), help="default: $NODE_IP")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIRECTORY)
    parser.add_argument("--registry-dir", type=Path, default=Path("/var/lib/kubelet/plugins_registry"))
    parser.add_argument("--cdi-dir", type=Path, default=Path("/var/run/cdi"))
    parser.add_argument("--driver-root", type=Path, default=Path("/"), help="root of the driver's files")
    parser.add_argument(
        "--driver-root-on-host", type=Path, help="the same folder on the node, if its path differs"
    )
    parser.add_argument(
        "--driver-libraries",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a further library folder below the driver root, searched first; may be given again",
    )
    parser.add_argument(
        "--dev-root",
        type=Path,
        default=Path("/"),
        help="the folder with dev/nvidia*, if the driver root has none",
    )
    parser.add_argument(
        "--dev-root-on-host", type=Path, help="the same folder on the node, if its path differs"
    )
    _add_input_options(parser)
    _add_api_options(parser)


def _add_input_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sources of signals."""
    parser.add_argument("--proc-root", type=Path, default=Path("/proc"))
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"))
    parser.add_argument("--kernel-log", type=Path, default=Path("/dev/kmsg"))
    parser.add_argument("--boot-id-file", type=Path, default=Path("/proc/sys/kernel/random/boot_id"))
    parser.add_argument(
        "--reports-dir", type=Path, help="folder of GPU reports by programs on the node; default: none"
    )
    parser.add_argument(
        "--record-signals",
        type=Path,
        metavar="FILE",
        help="record the signals for gpuvitals replay: at most 128 MiB in FILE and FILE.1; default: no recording",
    )


def _add_api_options(parser: argparse.ArgumentParser) -> None:
    """Adds the configuration, the API server, and the agent's own server."""
    parser.add_argument("--config", type=Path, help="a YAML file; docs name its fields")
    parser.add_argument("--kubeconfig", type=Path, help="default: the pod's own account")
    parser.add_argument(
        "--account-dir", type=Path, help="mount of that account; default: its usual path in pods"
    )
    parser.add_argument("--server", default="", help="a plain URL instead, as the simulation prints it")
    parser.add_argument(
        "--probe-address",
        default="127.0.0.1:0",
        help="host:port of /metrics, /livez, /readyz; [::]:port is every address, of both families",
    )
    parser.add_argument("--nvml-backend", default="", help="module:factory of another NVML, for simulations")
    parser.add_argument(
        "--accept-user-kernel-lines",
        action="store_true",
        help="for tests only: accept kernel log lines that a process wrote as the kernel's own",
    )


def node_options(given: argparse.Namespace) -> NodeOptions:
    """The options of the flags. Raises UsageError."""
    host, _, port = given.probe_address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"--probe-address {given.probe_address}: expected host:port")
    host = host.removeprefix("[").removesuffix("]")
    return NodeOptions(
        node=given.node_name,
        pod_uid=given.pod_uid,
        node_address=given.node_ip,
        state_directory=given.state_dir,
        registry_directory=given.registry_dir,
        cdi_directory=given.cdi_dir,
        driver_root=given.driver_root,
        driver_root_on_host=given.driver_root_on_host,
        driver_libraries=tuple(given.driver_libraries),
        dev_root=given.dev_root,
        dev_root_on_host=given.dev_root_on_host,
        proc_root=given.proc_root,
        sysfs_root=given.sysfs_root,
        kernel_log=given.kernel_log,
        boot_id_file=given.boot_id_file,
        reports_directory=given.reports_dir,
        record_signals=given.record_signals,
        config=given.config,
        kubeconfig=given.kubeconfig,
        account_directory=given.account_dir,
        server=given.server,
        probe_address=(host, int(port)),
        nvml_backend=given.nvml_backend,
        accept_user_kernel_lines=given.accept_user_kernel_lines,
        simulated=bool(given.nvml_backend),
    )
