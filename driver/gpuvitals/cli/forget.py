"""`gpuvitals forget`: removes a GPU that will not return from the memory of this node's agent."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gpuvitals.bootstrap import DEFAULT_STATE_DIRECTORY
from gpuvitals.kubeletplugin import debug_socket


def add_parser(verbs: "argparse._SubParsersAction[Any]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "forget", help="remove a GPU that was taken out of the machine from the memory of this node's agent"
    )
    parser.add_argument("uuid", metavar="UUID", help="UUID of a GPU that the driver no longer enumerates")
    parser.add_argument("--agent", type=Path, default=DEFAULT_STATE_DIRECTORY, help="the agent's --state-dir")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns 0 for a removed GPU, 1 for one that must stay or an agent that cannot be reached."""
    try:
        answer = debug_socket.ask(options.agent / debug_socket.FILE, {"ask": "forget", "gpu": options.uuid})
    except debug_socket.DebugError as error:
        print(f"gpuvitals: forget: {error}", file=sys.stderr)
        return 1
    print(answer)
    return 0
