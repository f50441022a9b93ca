"""Schedules the writes of claim statuses: each claim waits for its own failures, never for those of others. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef, ConditionStatus
from gpuvitals.kube.claim_status import apply_body
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.retry import CLAIMS, Backoff
from gpuvitals.kube.slices.change_budget import ChangeBudget
from gpuvitals.kube.slices.service_change import ChangeKind

PATIENT_SECONDS = 0.1
"""Delay of writes that only show a preparation: pods that start together need the server first."""
RECHECK_SECONDS = (15.0, 75.0)
"""Times after a take-over at which every claim is applied again: a late write of the previous instance may arrive before."""
_RETRY_SPACING_SECONDS = 1.0
"""The least time between two retries, whatever the number of failed claims."""
_UNREACHABLE = (0, 502, 503, 504)


@dataclass(slots=True, kw_only=True)
class _Record:
    """One claim. `stored` is its last known body on the server; `due` is the earliest time of its next write."""

    entries: tuple[ClaimEntry, ...]
    body: bytes
    due: float
    stored: bytes | None = None
    stored_at: float = 0.0
    shown: tuple[ClaimEntry, ...] = ()
    backoff: Backoff = field(default_factory=lambda: Backoff(CLAIMS))
    budget: ChangeBudget = field(default_factory=ChangeBudget)
    cause: str = ""
    is_unreachable: bool = False
    has_failed: bool = False


class ClaimSchedule:
    """One thread uses it, or several under a lock. Times are monotonic."""

    def __init__(self) -> None:
        self._records: dict[ClaimRef, _Record] = {}
        self._rechecks: list[float] = []
        self._retry_at = 0.0

    @property
    def causes(self) -> frozenset[str]:
        """The causes for which claims fail at present."""
        return frozenset(record.cause for record in self._records.values() if record.cause)

    def show(
        self, desired: Mapping[ClaimRef, tuple[ClaimEntry, ...]], now: float, *, is_urgent: bool
    ) -> None:
        """Replaces the desired entries. A claim that is no longer in the mapping needs no write."""
        records = {}
        for claim, entries in desired.items():
            body = apply_body(claim, entries)
            known = self._records.get(claim)
            if known is None:
                due = now if is_urgent else now + PATIENT_SECONDS
                known = _Record(entries=entries, body=body, due=due)
            elif known.body != body:
                known.entries, known.body = entries, body
                known.due = min(known.due, now) if known.cause else self._due(known, now, is_urgent=is_urgent)
                # A new fault never waits for the back-off of an old one.
                known.cause, known.is_unreachable = "", False
            records[claim] = known
        self._records = records

    def taken_over(self, now: float, spread_seconds: float) -> None:
        """Schedules rechecks, since another instance was the writer until now and may have a write in flight.

        `spread_seconds` keeps the nodes of a rolling update apart.
        """
        self._rechecks = [now + seconds + spread_seconds for seconds in RECHECK_SECONDS]

    def next(self, now: float) -> tuple[ClaimRef, bytes] | None:
        """The claim to write now, with its body; claims that have not failed go first."""
        if self._rechecks and now >= self._rechecks[0]:
            self._rechecks.pop(0)
            for record in self._records.values():
                record.stored = None
        due = [
            (record.has_failed, record.due, claim)
            for claim, record in self._records.items()
            if record.stored != record.body and record.due <= now
        ]
        first = min(due, key=lambda item: item[:2], default=None)
        if first is None:
            return None
        record = self._records[first[2]]
        if record.cause:
            if now < self._retry_at:
                return None
            self._retry_at = now + _RETRY_SPACING_SECONDS
        return first[2], record.body

    def wait_seconds(self, now: float, longest: float) -> float:
        """Seconds until `next` may return a claim, at most `longest`."""
        instants = [
            max(record.due, self._retry_at) if record.cause else record.due
            for record in self._records.values()
            if record.stored != record.body
        ]
        soonest = min([*instants, *self._rechecks[:1]], default=now + longest)
        return min(longest, max(0.0, soonest - now))

    def done(self, claim: ClaimRef, body: bytes, now: float) -> None:
        """Records that the claim has that body, or will never take it."""
        record = self._records.get(claim)
        if record is None:
            return
        record.stored, record.stored_at = body, now
        record.backoff.succeeded()
        record.cause, record.is_unreachable, record.has_failed = "", False, False
        if record.body == body:
            record.shown = record.entries
        # The server answers again, so claims that failed without an answer need not wait any longer.
        for other in self._records.values():
            if other.is_unreachable:
                other.cause, other.is_unreachable, other.due = "", False, now

    def failed(self, claim: ClaimRef, body: bytes, error: ApiError, now: float) -> float:
        """Records a failure. Returns the seconds until the next attempt for this claim."""
        record = self._records.get(claim)
        if record is None:
            return 0.0
        record.has_failed = True
        if record.body != body:
            return 0.0
        seconds = record.backoff.seconds(error, urgent=True)
        record.due = now + seconds
        record.cause, record.is_unreachable = error.cause, error.status in _UNREACHABLE
        return seconds

    def settled(self, uid: str, before: float) -> tuple[ClaimRef, tuple[ClaimEntry, ...]] | None:
        """The claim of that UID with its entries, if they were stored before that time; else None."""
        for claim, record in self._records.items():
            if claim.uid == uid and record.stored == record.body and record.stored_at < before:
                return claim, record.entries
        return None

    def differs(self, claim: ClaimRef, now: float) -> None:
        """Records that the claim has other entries than those that were written."""
        record = self._records[claim]
        record.stored, record.due = None, now

    def _due(self, record: _Record, now: float, *, is_urgent: bool) -> float:
        kind = _kind(record.shown, record.entries)
        if kind is ChangeKind.SERVICE:
            return now if is_urgent else now + PATIENT_SECONDS
        return now + record.budget.take(now, is_fault=kind is ChangeKind.FAULT)


def _kind(before: tuple[ClaimEntry, ...], after: tuple[ClaimEntry, ...]) -> ChangeKind:
    """The kind of change for a reader of the claim: a device's service, a fault, or less."""
    was, now = _conditions(before), _conditions(after)
    if was.keys() != now.keys():
        return ChangeKind.SERVICE
    false = ConditionStatus.FALSE
    if any((was[key][0] is false) is not (now[key][0] is false) for key in now):
        return ChangeKind.SERVICE
    is_fault = any(
        now[key] != was[key] and ConditionStatus.UNKNOWN not in (now[key][0], was[key][0]) for key in now
    )
    return ChangeKind.FAULT if is_fault else ChangeKind.OTHER


def _conditions(entries: tuple[ClaimEntry, ...]) -> dict[tuple[str, str], tuple[ConditionStatus, str]]:
    return {
        (f"{entry.device} {entry.share_id}", condition.type): (condition.status, condition.reason)
        for entry in entries
        for condition in entry.conditions
    }
