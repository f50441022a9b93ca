"""`gpuvitals node`: the agent of the DaemonSet."""

import argparse
import faulthandler
import sys
from typing import TYPE_CHECKING

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.node_options import add_node_options, node_options
from gpuvitals.cli.termination import Termination

if TYPE_CHECKING:
    from gpuvitals.wiring.kubelet_sockets import Sockets

_SWITCH_SECONDS = 0.001
"""GIL switch interval. Python's default of 5 ms is as long as a whole Prepare call, which releases the GIL at each file
access."""
_CLOSE_SECONDS = 1.5


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "node", help="run the node agent: detect faults, publish ResourceSlices, prepare claims"
    )
    add_node_options(parser)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs until SIGTERM, SIGINT or SIGHUP. Returns 0, or 1 after the failure of a part."""
    node_options = _options(options)
    # Signals are handled before there is a node, since open sockets must be closed then too.
    with Termination() as termination:
        return _run(options, node_options, termination)


def _run(options: argparse.Namespace, node_options: NodeOptions, termination: Termination) -> int:
    from gpuvitals.kubeletplugin.directory import StorageError
    from gpuvitals.kubeletplugin.publisher_lock import InstanceRunningError
    from gpuvitals.kubeletplugin.sockets import SocketError
    from gpuvitals.node.early_naming import early_naming
    from gpuvitals.observability.logs import configure
    from gpuvitals.wiring.kubelet_sockets import Sockets

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
    """The parts that are slow to import. The sockets are open before, unless their names had to be checked first."""
    from gpuvitals.config import ConfigError, load_config
    from gpuvitals.kube.errors import ApiError
    from gpuvitals.wiring.node import Node

    try:
        node = Node(options, load_config(options.config), sockets)
        termination.on_request(node.request_stop)
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
            f"--registry-dir {given.registry_dir}: no such directory; does the kubelet have another root?"
        )
    return node_options(given)
