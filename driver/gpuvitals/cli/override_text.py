"""Edits the annotation `override`: replaces the entry of one GPU, and separates unreadable entries. Pure."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from gpuvitals.cli.gpu_names import GpuNames
from gpuvitals.decode_error import decoded
from gpuvitals.model.clock import Moment
from gpuvitals.signals.reports.text import MAX_BYTES, ReportError, Rules, reports_from_json

RULES = Rules(may_clear=True, must_expire=True)
Entry = dict[str, object]
_SHOWN = 200
_DATETIME = msgspec.json.Decoder(datetime)
_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text, empty without entries. `replaced` is the number of entries that the new one replaces.

    `dropped` are the unreadable entries, each with its reason.
    """

    text: str = ""
    replaced: int = 0
    dropped: tuple[str, ...] = ()


class OverrideText:
    """The annotation's text and its edits. `names` has the GPUs of the node."""

    def __init__(self, text: str, names: GpuNames, now: datetime, *, repair: bool) -> None:
        self._text = text
        self._names = names
        self._now = now
        self._repair = repair
        self._dropped: list[str] = []

    def edited(self, gpu: str, entry: Entry | None) -> Edited:
        """Replaces every entry of that GPU by `entry`, and removes expired entries.

        Of several entries for another GPU the newest is kept. Raises ReportError for an unreadable entry of another
        person, unless `repair` is set, and for a result that the agent could not read.
        """
        replaced = 0
        kept: dict[str, Entry] = {}
        for number, each in enumerate(self._entries()):
            name = each.get("gpu")
            if isinstance(name, str) and self._names.key(name) == self._names.key(gpu):
                replaced += 1
            elif self._is_current(number, each):
                key = self._names.key(str(name))
                kept[key] = max(kept.get(key, each), each, key=_reported_at)
        result = [*kept.values(), *([] if entry is None else [entry])]
        self._check(result)
        text = json.dumps(result) if result else ""
        if len(text.encode()) > MAX_BYTES:
            raise ReportError(f"would have more than {MAX_BYTES} bytes; retract reports that no longer hold")
        return Edited(text, replaced, tuple(self._dropped))

    def _entries(self) -> list[Entry]:
        try:
            entries = json.loads(self._text or "[]")
            why = "" if isinstance(entries, list) else "is no list"
        except (ValueError, RecursionError) as error:
            entries, why = [], f"is no JSON: {str(error)[:100].lower()}"
        if why:
            self._drop(f"{why}: {self._text[:_SHOWN]!a}")
            return []
        for each in entries:
            if not isinstance(each, dict):
                self._drop(f"an entry is no object: {json.dumps(each)[:_SHOWN]}")
        return [each for each in entries if isinstance(each, dict)]

    def _is_current(self, number: int, entry: Entry) -> bool:
        try:
            self._check([entry])
        except ReportError as error:
            self._drop(f"[{number}]{str(error).removeprefix('[0]')}: {json.dumps(entry)[:_SHOWN]}")
            return False
        return _time(entry["expires"]) > self._now

    def _drop(self, why: str) -> None:
        """Drops an entry that no agent can read. Another person wrote it, so this needs `repair` and is reported."""
        if not self._repair:
            raise ReportError(f"{why}; add --repair to drop unreadable entries")
        self._dropped.append(why)

    def _check(self, entries: list[Entry]) -> None:
        reports_from_json(json.dumps(entries).encode(), Moment(at=0.0, time=self._now), RULES)


def _reported_at(entry: Entry) -> datetime:
    at = entry.get("at")
    return _OLDEST if at is None else _time(at)


def _time(text: object) -> datetime:
    """A time in a valid entry, parsed as the agent parses it: Python rejects some forms of RFC 3339."""
    return decoded(_DATETIME, json.dumps(text).encode())
