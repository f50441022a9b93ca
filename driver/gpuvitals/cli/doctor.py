"""`gpuvitals doctor`: checks this node, one line a check. The first command on a node or in the agent's pod."""

import argparse
import json
import socket
from collections.abc import Iterable
from pathlib import Path

from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.node_options import add_node_options, node_options
from gpuvitals.config import ConfigError, load_config
from gpuvitals.doctor.check import Finding
from gpuvitals.doctor.visit import has_failed, visit

_AGENT = Path("/proc/1/cmdline")


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "doctor",
        help="check this node: kernel log, NVML, driver files, kubelet folders, API server; exit code 1 if a check fails",
    )
    add_node_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the findings. Returns 0, or 1 if a check failed."""
    _as_the_agent(options, _AGENT)
    options.node_name = options.node_name or socket.gethostname().lower()
    node = node_options(options)
    try:
        naming = load_config(options.config).naming
    except ConfigError as error:
        raise UsageError(f"--config {error}") from error
    found: list[Finding] = []
    for finding in visit(node, naming):
        found.append(finding)
        if not options.json:
            print(_line(finding), flush=True)
    if options.json:
        print(_document(node.node, found))
    return 1 if has_failed(found) else 0


def _as_the_agent(options: argparse.Namespace, command_line: Path) -> None:
    """Applies the flags of an agent that is process 1 of this container, except those given on this command line."""
    try:
        arguments = command_line.read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:  # /proc is hidden, or belongs to another user: only our own flags apply
        return
    program = next((number for number, each in enumerate(arguments) if each.endswith("gpuvitals")), None)
    if program is None or arguments[program + 1 : program + 2] != ["node"]:
        return
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    add_node_options(parser)
    agents, _ = parser.parse_known_args(arguments[program + 2 :])
    for name, value in vars(agents).items():
        if getattr(options, name) == parser.get_default(name):
            setattr(options, name, value)


def _line(finding: Finding) -> str:
    text = f"{finding.outcome.value:<8}{finding.name:<20} {' '.join(finding.detail.split())}"
    return f"{text}; to do: {finding.advice}" if finding.advice else text


def _document(node: str, found: Iterable[Finding]) -> str:
    checks = [
        {
            "name": finding.name,
            "outcome": finding.outcome.value,
            "detail": finding.detail,
            "advice": finding.advice,
            "facts": finding.facts,
        }
        for finding in found
    ]
    return json.dumps({"node": node, "checks": checks}, indent=2)
