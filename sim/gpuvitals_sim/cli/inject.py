"""`gpuvitals inject`: injects a fault into a running demo, through the scripted hardware of its nodes."""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpuvitals.cli.command import command
from gpuvitals.cli.errors import UsageError
from gpuvitals_sim.cli.demo_lock import runs_in

if TYPE_CHECKING:
    from gpuvitals_sim.hardware.scripted_node import ScriptedNode

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
    Act = Callable[[ScriptedNode, argparse.Namespace], None]

FOLDER_PREFIX = "gv-demo-"
"""The prefix of a demo's folder in the system's folder for temporary files."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("inject", help="inject a fault into a running demo (make demo KEEP=1)")
    parser.add_argument(
        "--demo", type=Path, help="the demo's folder, which it prints; default: that of the only running demo"
    )
    faults = parser.add_subparsers(metavar="FAULT", required=True)
    xid = _gpu_fault(faults, "xid", "the driver logs an XID for a GPU", _xid)
    xid.add_argument("--code", type=int, required=True, help="the XID, 1 to 65535")
    xid.add_argument("--message", default="", help="the text after the code")
    xid.add_argument("--process", default="", help="the process name in the log line")
    _gpu_fault(
        faults, "off-bus", "a GPU falls off the bus: kernel log, config space and NVML show it", _off_bus
    )
    _gpu_fault(faults, "lose", "NVML returns GPU_IS_LOST for a GPU, without any other sign", _lose)
    _gpu_fault(faults, "reset", "reset a GPU, which repairs it", _reset)
    readings = _gpu_fault(faults, "set", "change readings of a GPU", _set)
    readings.add_argument("readings", nargs="+", metavar="NAME=VALUE", help="for example links_down=2")
    line = _fault(faults, "line", "append a line to the kernel log", _line)
    line.add_argument("text", help="the line's text")


def run(options: argparse.Namespace) -> int:
    """Injects the fault. 0 on success."""
    from gpuvitals_sim.hardware.state_file import StateError  # imported late, as all of the simulation

    node = _node(options)
    try:
        options.act(node, options)
    except StateError as error:
        raise UsageError(f"inject: {error}") from error
    kubeconfig = node.directory.parent / "kubeconfig"
    print(f"done on {options.node}; check with: {command()} status --kubeconfig {kubeconfig}")
    return 0


def _fault(faults: "Subparsers", name: str, text: str, act: "Act") -> argparse.ArgumentParser:
    parser = faults.add_parser(name, help=text)
    parser.add_argument("--node", default="node-0", help="default: node-0")
    parser.add_argument(
        "--demo", type=Path, default=argparse.SUPPRESS, help="as --demo before the fault's name"
    )
    parser.set_defaults(run=run, act=act)
    return parser


def _gpu_fault(faults: "Subparsers", name: str, text: str, act: "Act") -> argparse.ArgumentParser:
    parser = _fault(faults, name, text, act)
    parser.add_argument("--gpu", type=int, required=True, help="number in PCI order, from 0")
    return parser


def _node(options: argparse.Namespace) -> "ScriptedNode":
    from gpuvitals_sim.hardware.scripted_node import ScriptedNode
    from gpuvitals_sim.hardware.state_file import StateError

    folder = options.demo if options.demo is not None else _running_demo()
    if not runs_in(folder):
        left = f"; its folder was left behind, remove it with: rm -r {folder}" if folder.is_dir() else ""
        raise UsageError(f"--demo {folder}: no demo runs there{left}; start one with: make demo KEEP=1")
    node = ScriptedNode(folder / options.node)
    names = sorted(path.parent.name for path in folder.glob("*/gpus.json"))
    if options.node not in names:
        raise UsageError(f"--node {options.node}: the demo has no such node; there are {', '.join(names)}")
    try:
        gpus = len(node.gpus)
    except StateError as error:
        raise UsageError(f"--demo {error}") from error
    number = getattr(options, "gpu", 0)
    if not 0 <= number < gpus:
        raise UsageError(f"--gpu {number}: the node has GPUs 0 to {gpus - 1}")
    return node


def _running_demo() -> Path:
    folders = Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/kubeconfig")
    found = [path.parent for path in folders if runs_in(path.parent)]
    if len(found) != 1:
        several = f"{len(found)} demos run: {', '.join(map(str, sorted(found)))}"
        none = "none runs; start one with: make demo KEEP=1"
        raise UsageError(f"--demo: name the demo's folder; {several if found else none}")
    return found[0]


def _xid(node: "ScriptedNode", options: argparse.Namespace) -> None:
    if not 1 <= options.code <= 65_535:
        raise UsageError(f"--code {options.code}: an XID is 1 to 65535")
    node.xid(options.gpu, options.code, options.message, process=options.process)


def _off_bus(node: "ScriptedNode", options: argparse.Namespace) -> None:
    node.off_bus(options.gpu)


def _lose(node: "ScriptedNode", options: argparse.Namespace) -> None:
    node.lose(options.gpu)


def _reset(node: "ScriptedNode", options: argparse.Namespace) -> None:
    node.reset(options.gpu)


def _set(node: "ScriptedNode", options: argparse.Namespace) -> None:
    node.set(options.gpu, dict(_reading(text) for text in options.readings))


def _reading(text: str) -> tuple[str, object]:
    """A name and its value, decoded as JSON (3, true, null) or else as text. Raises UsageError."""
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"inject set {text!r}: expected NAME=VALUE, for example links_down=2")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _line(node: "ScriptedNode", options: argparse.Namespace) -> None:
    node.kernel_line(options.text)
