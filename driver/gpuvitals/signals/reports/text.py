"""Parses what people and programs write about GPUs: lines for a person in a hurry, JSON for everything.

A line is `GPU bad|degraded REASON`, several are separated by newlines or semicolons:
    gpu-0000-3b-00-0 bad ticket 123
JSON is a list of objects: {"gpu": "...", "say": "bad", "by": "jane", "reason": "ticket 123",
"at": "2026-11-25T06:00:00Z", "expires": "2026-12-01T00:00:00Z"}. Every error names the place and the field.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from gpuvitals.decode_error import decoded, misfit
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu_name import folded_name, normal_bus_id
from gpuvitals.model.signal import ExternalReport, ReportedState

MAX_BYTES = 16 * 1024
MAX_STATEMENTS = 64
_MAX_REASON = 200
_MAX_BY = 64
_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,79}\Z")
_LONGEST = timedelta(days=366)
_AHEAD = timedelta(minutes=5)


class StatementError(Exception):
    """The text can't be used. The message names the entry and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a place allows. `by` signs what is not signed, empty where a signature is asked for.

    `may_clear`: it is a person's place. `must_expire`: every entry needs an end.
    """

    by: str = ""
    may_clear: bool = False
    must_expire: bool = False


def statements_from_lines(text: str, rules: Rules) -> tuple[ExternalReport, ...]:
    """The statements of the short form. Raises StatementError."""
    entries = [line.strip() for line in re.split(r"[\n;]", text)]
    found = []
    for number, line in enumerate((entry for entry in entries if entry and not entry.startswith("#")), 1):
        parts = line.split(None, 2)
        if len(parts) < 3:
            raise StatementError(f"entry {number}: expected GPU bad|degraded REASON")
        found.append(
            _checked(
                ExternalReport(gpu=parts[0], says=_says(parts[1], number), by=rules.by, reason=parts[2]),
                f"entry {number}",
            )
        )
    return _together(found, rules)


def statements_from_json(text: bytes, now: Moment, rules: Rules) -> tuple[ExternalReport, ...]:
    """The statements of the long form. Raises StatementError."""
    try:
        entries = decoded(_ENTRIES, text)
    except msgspec.DecodeError as error:
        raise StatementError(misfit(error, "the list")) from error
    return _together([_read(entry, now, rules, number) for number, entry in enumerate(entries)], rules)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    gpu: str
    say: str
    reason: str
    by: str = ""
    at: datetime | None = None
    expires: datetime | None = None


_ENTRIES = msgspec.json.Decoder(list[_Entry])


def _read(entry: _Entry, now: Moment, rules: Rules, number: int) -> ExternalReport:
    where = f"[{number}]"
    at, expires = _aware(entry.at, f"{where}.at"), _aware(entry.expires, f"{where}.expires")
    if at is not None and at > now.time + _AHEAD:
        raise StatementError(f"{where}.at: {at:%Y-%m-%dT%H:%M:%SZ} lies in the future")
    if expires is None and rules.must_expire:
        raise StatementError(f"{where}.expires: is missing; an override needs an end")
    if expires is not None and expires > now.time + _LONGEST:
        raise StatementError(f"{where}.expires: lies more than {_LONGEST.days} days ahead")
    statement = ExternalReport(
        gpu=entry.gpu,
        says=_says(entry.say, number, where),
        by=entry.by or rules.by,
        reason=entry.reason,
        at=None if at is None else _moment(min(at, now.time), now),
        expires=expires,
    )
    if statement.says is ReportedState.CLEAR and statement.at is None:
        raise StatementError(f"{where}.at: is missing; a clear ends what is older than it")
    return _checked(statement, where)


def _says(text: str, number: int, where: str = "") -> ReportedState:
    try:
        return ReportedState(text)
    except ValueError as error:
        place = f"{where}.say" if where else f"entry {number}"
        known = ", ".join(each.value for each in ReportedState)
        raise StatementError(f"{place}: {text[:20]!a} is none of {known}") from error


def _checked(statement: ExternalReport, where: str) -> ExternalReport:
    if _GPU.match(statement.gpu) is None:
        raise StatementError(f"{where}.gpu: {statement.gpu[:80]!a} is no device name, UUID or PCI bus id")
    for field, text, longest in (("by", statement.by, _MAX_BY), ("reason", statement.reason, _MAX_REASON)):
        if not 1 <= len(text) <= longest or not text.isprintable():
            raise StatementError(f"{where}.{field}: expected 1 to {longest} printable characters")
    bus_id = normal_bus_id(statement.gpu)
    return statement if bus_id is None else replace(statement, gpu=bus_id)


def _together(found: list[ExternalReport], rules: Rules) -> tuple[ExternalReport, ...]:
    if len(found) > MAX_STATEMENTS:
        raise StatementError(f"has {len(found)} entries, more than {MAX_STATEMENTS}")
    seen: set[str] = set()
    for statement in found:
        if statement.says is ReportedState.CLEAR and not rules.may_clear:
            raise StatementError(f"gpu {statement.gpu}: only an override on the Node may say clear")
        name = folded_name(statement.gpu)
        if name in seen:
            raise StatementError(f"gpu {statement.gpu}: is named twice")
        seen.add(name)
    return tuple(sorted(found, key=lambda statement: statement.gpu))


def _aware(time: datetime | None, where: str) -> datetime | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise StatementError(f"{where}: has no time zone; expected 2026-11-25T06:00:00Z")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise StatementError(f"{where}: lies beyond the calendar") from error


def _moment(time: datetime, now: Moment) -> Moment:
    return Moment(at=now.at - (now.time - time).total_seconds(), time=time)
