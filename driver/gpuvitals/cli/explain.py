"""`gpuvitals explain`: each step from a signal to the verdict, for a kernel line or for a GPU of an agent.

Its output belongs into every bug report.
"""

import argparse
import json
import sys
from pathlib import Path

import msgspec

from gpuvitals.bootstrap import DEFAULT_STATE_DIRECTORY
from gpuvitals.cli.connection import add_connection_options, connection
from gpuvitals.cli.errors import INCOMPLETE, UsageError
from gpuvitals.cli.explain_line import line_stations
from gpuvitals.cli.policy_option import add_policy_option, chosen_policy
from gpuvitals.cli.remote_explain import remote_stations
from gpuvitals.kube.agent_pods import SELECTOR
from gpuvitals.kube.errors import ApiError
from gpuvitals.kubeletplugin import debug_socket
from gpuvitals.node.explain import Station


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "explain", help="explain the verdict on a GPU or on a kernel line, step by step"
    )
    parser.add_argument(
        "--line",
        help="a kernel line in any form that gpuvitals replay reads, as 4,123,456,-;NVRM: ... of /dev/kmsg",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="[NODE] GPU",
        help="device name, UUID or PCI bus id of a GPU: of this node's agent, or of the agent of NODE",
    )
    add_connection_options(parser)
    parser.add_argument(
        "--selector", default=SELECTOR, help=f"labels of the agents' pods, with NODE (default: {SELECTOR})"
    )
    parser.add_argument(
        "--agent", type=Path, default=DEFAULT_STATE_DIRECTORY, help="the agent's --state-dir, with GPU"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_policy_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the stations. Returns 0; 1 for an agent that cannot be reached; 3 for a line that cannot be read."""
    if (options.line is None) is (not options.names) or len(options.names) > 2:
        raise UsageError(
            "explain: give either a GPU of this node's agent, NODE and GPU, or --line with a kernel line"
        )
    if options.line is not None:
        if not options.line.strip():
            raise UsageError("--line: is empty; expected a kernel line")
        stations, is_read = line_stations(options.line, chosen_policy(options.policy))
    else:
        if options.policy:
            raise UsageError("--policy: goes with --line; a live GPU is evaluated with its agent's policy")
        is_read = True
        try:
            stations = _of_gpu(options)
        except debug_socket.RefusedQuestionError as error:
            raise UsageError(f"explain: {error}") from error
        except (debug_socket.DebugError, ApiError) as error:
            print(f"gpuvitals: {error}", file=sys.stderr)
            return 1
    print(_json(stations) if options.json else _text(stations))
    return 0 if is_read else INCOMPLETE


def _of_gpu(options: argparse.Namespace) -> list[Station]:
    """Raises DebugError, ApiError and UsageError."""
    *node, gpu = options.names
    if not node:
        return agent_stations(options.agent, gpu)
    return remote_stations(connection(options), node[0], gpu, options.selector)


def agent_stations(state_directory: Path, gpu: str) -> list[Station]:
    """The explanation of one GPU by the agent on this node. Raises DebugError."""
    answer = debug_socket.ask(state_directory / debug_socket.FILE, {"ask": "gpu", "gpu": gpu})
    return [Station(each["station"], each["text"]) for each in msgspec.convert(answer, list[dict[str, str]])]


def _json(stations: list[Station]) -> str:
    return json.dumps([{"station": station.name, "text": station.text} for station in stations], indent=2)


def _text(stations: list[Station]) -> str:
    width = max(len(station.name) for station in stations)
    return "\n".join(
        f"{number:2} {station.name:<{width}}  {station.text}"
        for number, station in enumerate(stations, start=1)
    )
