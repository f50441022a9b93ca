"""`gpuvitals node`: the agent of the DaemonSet."""

import argparse
import faulthandler
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpuvitals.bootstrap import DEFAULT_STATE_DIRECTORY, NodeOptions
from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.termination import Termination

if TYPE_CHECKING:
    from gpuvitals.wiring.sockets import Sockets

_SWITCH_SECONDS = 0.001
"""For so long a thread may keep the others from running. Python's 5 ms are as long as a whole preparation takes, and a
call gives way at each look at a file."""
_CLOSE_SECONDS = 1.5


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("node", help="run the node agent: hear faults, publish slices, prepare claims")
    parser.add_argument("--node-name", default=os.environ.get("NODE_NAME", ""), help="default: $NODE_NAME")
    parser.add_argument("--pod-uid", default=os.environ.get("POD_UID", ""), help="default: $POD_UID")
    parser.add_argument("--node-ip", default=os.environ.get("NODE_IP", ""), help="default: $NODE_IP")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIRECTORY)
    parser.add_argument("--registry-dir", type=Path, default=Path("/var/lib/kubelet/plugins_registry"))
    parser.add_argument("--cdi-dir", type=Path, default=Path("/var/run/cdi"))
    parser.add_argument(
        "--driver-root", type=Path, default=Path("/"), help="where the driver's files are seen"
    )
    parser.add_argument(
        "--driver-root-on-host", type=Path, help="the same place on the node, if its path differs"
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
        help="the folder that holds dev/nvidia*, where the driver root has none",
    )
    parser.add_argument(
        "--dev-root-on-host", type=Path, help="the same place on the node, if its path differs"
    )
    parser.add_argument("--proc-root", type=Path, default=Path("/proc"))
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"))
    parser.add_argument("--kernel-log", type=Path, default=Path("/dev/kmsg"))
    parser.add_argument("--boot-id-file", type=Path, default=Path("/proc/sys/kernel/random/boot_id"))
    parser.add_argument(
        "--reports-dir", type=Path, help="where programs on the node report GPUs; default: nowhere"
    )
    parser.add_argument(
        "--record-signals",
        type=Path,
        metavar="FILE",
        help="record what is heard, for gpuvitals replay: at most 128 MiB in FILE and FILE.1; default: nothing",
    )
    parser.add_argument("--config", type=Path, help="a YAML file; docs name its fields")
    parser.add_argument("--kubeconfig", type=Path, help="default: the pod's own account")
    parser.add_argument("--account-dir", type=Path, help="where that is mounted; default: where pods find it")
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
        help="for tests only: believe kernel log lines that a process wrote, as the kernel's own",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs until SIGTERM, SIGINT or SIGHUP. 0; 1 where a part could not go on."""
    node_options = _options(options)
    # Also before there is a node to stop: open sockets must be closed then too.
    with Termination() as termination:
        return _run(options, node_options, termination)


def _run(options: argparse.Namespace, node_options: NodeOptions, termination: Termination) -> int:
    from gpuvitals.kubeletplugin.files import StorageError
    from gpuvitals.kubeletplugin.leadership import InstanceRunningError
    from gpuvitals.kubeletplugin.sockets import SocketError
    from gpuvitals.observability.logs import configure
    from gpuvitals.wiring.sockets import Sockets, early_naming

    # A crash in C code leaves no traceback otherwise. 2, since sys.stderr may be replaced.
    faulthandler.enable(2)
    configure(options.log_level)
    sys.setswitchinterval(_SWITCH_SECONDS)
    sockets = None
    try:
        naming = early_naming(options.config)
        if naming is not None:
            sockets = Sockets(node_options, naming)
            sockets.open()
        return _run_behind(node_options, sockets, termination)
    except (StorageError, SocketError, InstanceRunningError, OSError) as error:
        print(f"gpuvitals: {error}", file=sys.stderr)
        return 1
    finally:
        if sockets is not None:
            sockets.stop(_CLOSE_SECONDS)


def _run_behind(options: NodeOptions, sockets: "Sockets | None", termination: Termination) -> int:
    """The rest, which is slow to import. It stands behind open sockets, but for names that had to be checked first."""
    from gpuvitals.config import ConfigError, load_config
    from gpuvitals.kube.errors import ApiError
    from gpuvitals.wiring.node import Node

    try:
        node = Node(options, load_config(options.config), sockets)
        termination.hand_to(node.request_stop)
        node.start()
    except ConfigError as error:
        raise UsageError(f"--config {error}") from error
    except ApiError as error:
        print(f"gpuvitals: {error}", file=sys.stderr)
        return 1
    failure = node.run()
    node.stop()
    if failure:
        print(f"gpuvitals: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _options(given: argparse.Namespace) -> NodeOptions:
    if not given.node_name:
        raise UsageError("--node-name: is empty, and so is $NODE_NAME; expected the name of this node")
    if not given.state_dir.parent.is_dir():
        raise UsageError(f"--state-dir {given.state_dir}: its parent is no directory")
    if not given.registry_dir.is_dir():
        raise UsageError(
            f"--registry-dir {given.registry_dir}: no such directory; where is the kubelet's root?"
        )
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
