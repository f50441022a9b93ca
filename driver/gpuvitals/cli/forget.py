"""`gpuvitals forget`: removes a GPU that will not come back from the memory of the agent on this node."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gpuvitals.bootstrap import DEFAULT_STATE_DIRECTORY
from gpuvitals.kubeletplugin import debug_socket


def add_parser(verbs: "argparse._SubParsersAction[Any]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("forget", help="remove a GPU that is gone from the memory of this node's agent")
    parser.add_argument(
        "uuid", metavar="UUID", help="UUID of a GPU that the driver does not enumerate any more"
    )
    parser.add_argument("--agent", type=Path, default=DEFAULT_STATE_DIRECTORY, help="the agent's --state-dir")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where the GPU is forgotten, 1 where it has to stay or the agent can't be asked."""
    try:
        answer = debug_socket.ask(options.agent / debug_socket.FILE, {"ask": "forget", "gpu": options.uuid})
    except debug_socket.DebugError as error:
        print(f"gpuvitals: forget: {error}", file=sys.stderr)
        return 1
    print(answer)
    return 0
