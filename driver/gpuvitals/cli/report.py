"""`gpuvitals report`: declares one GPU bad, degraded or repaired, with author, reason and expiry.

It writes the annotation `override` on the Node, which the node's agent reads within half a minute.
"""

import argparse
import getpass
import json
import re
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gpuvitals.cli.connection import add_connection_options, connection, node_name
from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.gpu_names import GpuNames
from gpuvitals.cli.override_text import RULES, Edited, Entry, OverrideText
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.nodes import edit_annotation
from gpuvitals.kube.slices.list import published
from gpuvitals.kube.transport import Transport, connect
from gpuvitals.model.clock import Moment
from gpuvitals.signals.reports.text import ReportError, reports_from_json

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class _Place:
    """The annotation that the node's agent reads, and the names of its GPUs."""

    annotation: str
    names: GpuNames


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("report", help="declare a GPU bad, degraded or repaired, for a while")
    parser.add_argument("node", type=node_name, help="the Node that has it")
    parser.add_argument("gpu", help="device name, UUID, or PCI bus id in any spelling")
    parser.add_argument(
        "say",
        choices=["bad", "degraded", "clear", "nothing"],
        help="bad: out of service. clear: repaired, on probation. nothing: retract the report",
    )
    parser.add_argument(
        "--reason",
        default="",
        help="reason of the report, shown wherever the GPU's health is; required except for nothing",
    )
    parser.add_argument("--by", default="", help="author of the report; default: your login name")
    parser.add_argument(
        "--repair", action="store_true", help="drop unreadable reports of other people, and print them"
    )
    parser.add_argument(
        "--for", default="7d", dest="lasts", help="lifetime of the report: 90m, 12h, 7d (default)"
    )
    parser.add_argument(
        "--api-group",
        default="",
        help="group of the annotation, for a node with two installations; default: that of its slices",
    )
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the report. Returns 0, or 1 for a failed call; raises UsageError for an unknown GPU."""
    now = datetime.now(UTC)
    entry = None if options.say == "nothing" else _entry(options, now)
    if entry is not None:
        _check(json.dumps([entry]), now, options)
    done = Edited()

    def edit(text: str) -> str:
        nonlocal done
        done = _edited(text, options, place, entry, now)
        return done.text

    try:
        with closing(connect(connection(options))) as transport:
            place = _place(transport, options)
            edit_annotation(transport, options.node, place.annotation, edit)
    except (ApiError, ReportError) as error:
        print(f"gpuvitals: node {options.node}: {error}", file=sys.stderr)
        return 1
    for each in done.dropped:
        print(f"gpuvitals: node {options.node}: dropped from {place.annotation}: {each}", file=sys.stderr)
    print(f"node {options.node}, gpu {place.names.key(options.gpu)}: {_result(options.say, entry, done)}")
    return 0


def _place(transport: Transport, options: argparse.Namespace) -> _Place:
    """Raises ApiError, and UsageError for a node with two installations and no `--api-group`."""
    view = published(transport, node=options.node)
    groups = sorted(view.api_groups)
    if len(groups) > 1 and not options.api_group:
        raise UsageError(f"report: --api-group is missing: node {options.node} has {', '.join(groups)}")
    group = options.api_group or (groups[0] if groups else Naming().api_group)
    return _Place(
        annotation=Naming(api_group=group).override,
        names=GpuNames(view.devices),
    )


def _edited(
    text: str, options: argparse.Namespace, place: _Place, entry: Entry | None, now: datetime
) -> Edited:
    """The edited annotation. Raises ReportError, and UsageError for a GPU that is neither on the node nor reported."""
    names = place.names
    try:
        found = OverrideText(text, names, now, repair=options.repair).edited(options.gpu, entry)
    except ReportError as error:
        raise ReportError(f"annotation {place.annotation}: {error}") from error
    if names.device(options.gpu) is None and not (entry is None and found.replaced):
        known = ", ".join(names.devices) or "none; is its agent running?"
        raise UsageError(f"report: {options.gpu}: node {options.node} has no such GPU; it has {known}")
    return found


def _result(say: str, entry: Entry | None, done: Edited) -> str:
    if entry is not None:
        return f"{say} until {entry['expires']}; its agent reads it within half a minute"
    if done.replaced:
        return "report retracted; its agent reads that within half a minute"
    return "there was no report"


def _entry(options: argparse.Namespace, now: datetime) -> Entry:
    if not options.reason:
        raise UsageError("report: --reason is missing: it is shown wherever the GPU's health is")
    return {
        "gpu": options.gpu,
        "say": options.say,
        "by": options.by or _login(),
        "reason": options.reason,
        # To the microsecond, so that the report also covers a fault of this very second.
        "at": now.isoformat().replace("+00:00", "Z"),
        "expires": (now + _duration(options.lasts)).strftime(_TIME),
    }


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if match is None:
        raise UsageError(f"report: --for {text}: expected a number and m, h or d, as 90m, 12h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a container's user may have no name; Python 3.13 raises OSError
        raise UsageError("report: --by is missing: this login has no name") from error


def _check(text: str, now: datetime, options: argparse.Namespace) -> None:
    """Checks a new entry. Raises UsageError, which names the flag of the field at fault."""
    try:
        reports_from_json(text.encode(), Moment(at=0.0, time=now), RULES)
    except ReportError as error:
        field, _, wrong = str(error).removeprefix("[0].").partition(": ")
        flag = {"expires": f"--for {options.lasts}", "reason": "--reason", "by": "--by"}.get(field, field)
        raise UsageError(f"report: {flag}: {wrong}") from error
