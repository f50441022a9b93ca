"""`gpuvitals report`: a person declares one GPU bad, or repaired, with a name, a reason and an end.

It writes the annotation `override` on the Node, which the node's agent reads within half a minute.
"""

import argparse
import getpass
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from gpuvitals.cli.connection import add_connection_options, connection
from gpuvitals.cli.errors import UsageError
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.client import connect
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.nodes import edit_annotation
from gpuvitals.model.clock import Moment
from gpuvitals.signals.statement_text import Rules, StatementError, statements_from_json

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_RULES = Rules(may_clear=True, must_expire=True)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("report", help="declare a GPU bad, degraded or repaired, for a while")
    parser.add_argument("node", help="the Node that has it")
    parser.add_argument("gpu", help="device name, UUID or PCI bus id")
    parser.add_argument(
        "say",
        choices=["bad", "degraded", "clear", "nothing"],
        help="bad: out of service. clear: repaired, on probation. nothing: take back what was said",
    )
    parser.add_argument(
        "--reason", default="", help="why, for all who read it; needed unless nothing is said"
    )
    parser.add_argument("--by", default="", help="who says so; default: the name of your login")
    parser.add_argument(
        "--for", default="7d", dest="lasts", help="how long it stands: 90m, 12h, 7d (default)"
    )
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes it. 0; 1 where the API server does not take it."""
    now = datetime.now(UTC)
    entry = None if options.say == "nothing" else _entry(options, now)
    if entry is not None:
        _check(json.dumps([entry]), now, options.gpu)
    try:
        transport = connect(connection(options))
        edit_annotation(
            transport, options.node, Naming().override, lambda text: _edited(text, options.gpu, entry, now)
        )
    except (ApiError, StatementError) as error:
        print(f"gpuvitals: node {options.node}: {error}", file=sys.stderr)
        return 1
    said = "nothing is said any more" if entry is None else f"{options.say} until {entry['expires']}"
    print(f"node {options.node}, gpu {options.gpu}: {said}; its agent reads it within half a minute")
    return 0


def _entry(options: argparse.Namespace, now: datetime) -> dict[str, str]:
    if not options.reason:
        raise UsageError("report: --reason is missing: who finds the GPU so must know why")
    return {
        "gpu": options.gpu,
        "say": options.say,
        "by": options.by or getpass.getuser(),
        "reason": options.reason,
        # To the microsecond: a fault of this very second is meant as well.
        "at": now.isoformat().replace("+00:00", "Z"),
        "expires": (now + _duration(options.lasts)).strftime(_TIME),
    }


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if match is None:
        raise UsageError(f"report: --for {text}: expected a number and m, h or d, as 90m, 12h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _check(text: str, now: datetime, gpu: str) -> None:
    try:
        statements_from_json(text.encode(), Moment(at=0.0, time=now), _RULES)
    except StatementError as error:
        raise UsageError(f"report: {gpu}: {str(error).removeprefix('[0].')}") from error


def _edited(text: str, gpu: str, entry: dict[str, str] | None, now: datetime) -> str:
    """The annotation with this GPU's entry replaced, and without those that have expired.

    Raises StatementError where what is there can't be read: it is somebody's, and is not thrown away.
    """
    try:
        statements_from_json((text or "[]").encode(), Moment(at=0.0, time=now), _RULES)
    except StatementError as error:
        raise StatementError(f"annotation {Naming().override} is there and can't be read: {error}") from error
    entries: list[dict[str, Any]] = json.loads(text or "[]")
    kept = [each for each in entries if each["gpu"] != gpu and datetime.fromisoformat(each["expires"]) > now]
    result = [*kept, *([entry] if entry is not None else [])]
    return json.dumps(result) if result else ""
