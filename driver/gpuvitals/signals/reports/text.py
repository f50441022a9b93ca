"""Parses external reports of GPUs: a short form of one line per GPU, and a long form in JSON.

A line is `GPU bad|degraded REASON`. Newlines or semicolons separate lines:
    gpu-0000-3b-00-0 bad ticket 123
The long form is a list of objects: {"gpu": "...", "say": "bad", "by": "jane", "reason": "ticket 123",
"at": "2026-11-25T06:00:00Z", "expires": "2026-12-01T00:00:00Z"}. Every error names the entry and the field.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from gpuvitals.decode_error import decoded, misfit
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu_name import normalize_gpu_name
from gpuvitals.model.pci import normalize_bus_id
from gpuvitals.model.signal import ExternalReport, ReportedState

MAX_BYTES = 16 * 1024
MAX_REPORTS = 64
_MAX_REASON = 200
_MAX_BY = 64
_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,79}\Z")
_LONGEST = timedelta(days=366)
_MAX_CLOCK_SKEW = timedelta(minutes=5)


class ReportError(Exception):
    """Text that is not a valid list of reports. The message names the entry and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one input. `by` is the author of unsigned reports; if it is empty, every report needs an author.

    `may_clear`: the state CLEAR is accepted, since only operators write to this input. `must_expire`: every report
    needs an end.
    """

    by: str = ""
    may_clear: bool = False
    must_expire: bool = False


def reports_from_lines(text: str, rules: Rules) -> tuple[ExternalReport, ...]:
    """The reports of the short form. Raises ReportError."""
    entries = [line.strip() for line in re.split(r"[\n;]", text)]
    found = []
    for number, line in enumerate((entry for entry in entries if entry and not entry.startswith("#")), 1):
        parts = line.split(None, 2)
        if len(parts) < 3:
            raise ReportError(f"entry {number}: expected GPU bad|degraded REASON")
        state = _state(parts[1], f"entry {number}")
        report = ExternalReport(gpu=parts[0], state=state, by=rules.by, reason=parts[2])
        found.append(_checked(report, f"entry {number}"))
    return _checked_list(found, rules)


def reports_from_json(text: bytes, now: Moment, rules: Rules) -> tuple[ExternalReport, ...]:
    """The reports of the long form. Raises ReportError."""
    try:
        entries = decoded(_ENTRIES, text)
    except msgspec.DecodeError as error:
        raise ReportError(misfit(error, "the list")) from error
    return _checked_list([_report(entry, now, rules, f"[{at}]") for at, entry in enumerate(entries)], rules)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    gpu: str
    say: str
    reason: str
    by: str = ""
    at: datetime | None = None
    expires: datetime | None = None


_ENTRIES = msgspec.json.Decoder(list[_Entry])


def _report(entry: _Entry, now: Moment, rules: Rules, where: str) -> ExternalReport:
    at, expires = _aware(entry.at, f"{where}.at"), _aware(entry.expires, f"{where}.expires")
    if at is not None and at > now.time + _MAX_CLOCK_SKEW:
        raise ReportError(f"{where}.at: {at:%Y-%m-%dT%H:%M:%SZ} lies in the future")
    if expires is None and rules.must_expire:
        raise ReportError(f"{where}.expires: is missing; an override needs an end")
    if expires is not None and expires > now.time + _LONGEST:
        raise ReportError(f"{where}.expires: lies more than {_LONGEST.days} days ahead")
    report = ExternalReport(
        gpu=entry.gpu,
        state=_state(entry.say, f"{where}.say"),
        by=entry.by or rules.by,
        reason=entry.reason,
        at=None if at is None else _moment(min(at, now.time), now),
        expires=expires,
    )
    if report.state is ReportedState.CLEAR and report.at is None:
        raise ReportError(f"{where}.at: is missing; a clear ends faults that are older than it")
    return _checked(report, where)


def _state(text: str, where: str) -> ReportedState:
    try:
        return ReportedState(text)
    except ValueError as error:
        known = ", ".join(each.value for each in ReportedState)
        raise ReportError(f"{where}: {text[:20]!a} is none of {known}") from error


def _checked(report: ExternalReport, where: str) -> ExternalReport:
    if _GPU.match(report.gpu) is None:
        raise ReportError(f"{where}.gpu: {report.gpu[:80]!a} is no device name, UUID or PCI bus id")
    for field, text, longest in (("by", report.by, _MAX_BY), ("reason", report.reason, _MAX_REASON)):
        if not 1 <= len(text) <= longest or not text.isprintable():
            raise ReportError(f"{where}.{field}: expected 1 to {longest} printable characters")
    bus_id = normalize_bus_id(report.gpu)
    return report if bus_id is None else replace(report, gpu=bus_id)


def _checked_list(found: list[ExternalReport], rules: Rules) -> tuple[ExternalReport, ...]:
    if len(found) > MAX_REPORTS:
        raise ReportError(f"has {len(found)} entries, more than {MAX_REPORTS}")
    seen: set[str] = set()
    for report in found:
        if report.state is ReportedState.CLEAR and not rules.may_clear:
            raise ReportError(f"gpu {report.gpu}: only an override on the Node may clear a GPU")
        name = normalize_gpu_name(report.gpu)
        if name in seen:
            raise ReportError(f"gpu {report.gpu}: is named twice")
        seen.add(name)
    return tuple(sorted(found, key=lambda report: report.gpu))


def _aware(time: datetime | None, where: str) -> datetime | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ReportError(f"{where}: has no time zone; expected 2026-11-25T06:00:00Z")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ReportError(f"{where}: lies beyond the calendar") from error


def _moment(time: datetime, now: Moment) -> Moment:
    return Moment(at=now.at - (now.time - time).total_seconds(), time=time)
