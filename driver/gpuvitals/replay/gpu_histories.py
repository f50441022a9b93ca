"""The GPUs of a log under one policy: each folded and judged as time goes on, and who of them would be out. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gpuvitals.health.evaluate import advance
from gpuvitals.health.isolation import isolated
from gpuvitals.health.policy import Policy
from gpuvitals.health.reasons import person_should
from gpuvitals.health.state import GpuState, initial_state
from gpuvitals.health.verdict import next_change_at, verdict
from gpuvitals.model.clock import Moment
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid, PciBusId, Reason
from gpuvitals.model.signal import (
    GpuSignal,
    InitFailureReport,
    Reading,
    RecoveryActionReport,
    Source,
    XidReport,
)
from gpuvitals.replay.assumed_readings import at_work, begun_anew, come_up, folded, seen_now, shows_work
from gpuvitals.replay.findings import GpuEnd, Happening, Isolation, Kind, Tally
from gpuvitals.replay.isolations import weigh, weigh_witnesses
from gpuvitals.replay.roster import Roster, phantoms

MAX_KEPT = 1000
"""Isolations kept for the summary; the rest is counted."""
_MAX_CODES = 64
_RECOVERY_ACTION = 154
_INIT_FAILED = Reason("InitFailed")
_ROUNDING_SECONDS = 0.001
"""An instant that was computed is looked at this much later: a sum of floats may fall short of what it stands for."""
_NEVER = Moment(at=0.0, time=datetime.fromtimestamp(0, UTC))


@dataclass(slots=True)
class _Watched:
    """One GPU or instance while the log is read. `is_read`: the log itself has readings of it.

    `is_unproven`: the driver was loaded again, and nothing has shown since that the GPU came up in it.
    """

    state: GpuState
    verdict: Verdict
    since: Moment
    next_at: float | None = None
    is_read: bool = False
    is_unproven: bool = False
    hint: str = ""
    isolation: Isolation | None = None
    isolations: int = 0
    seconds_out: float = 0.0
    codes: dict[int, int] = field(default_factory=dict)
    last_xid: XidReport | None = None


class GpuHistories:
    """`node_gpus` is how many GPUs the node has at least: those that the log never names are well."""

    def __init__(self, policy: Policy, node_gpus: int, tally: Tally) -> None:
        self._policy = policy
        self._tally = tally
        self._roster = Roster()
        self._watched: dict[GpuUuid, _Watched] = {}
        self._unnamed = [
            verdict(seen_now(initial_state(gpu, _NEVER), _NEVER), _NEVER, policy)
            for gpu in phantoms(node_gpus)
        ]

    @property
    def roster(self) -> Roster:
        """Who there is."""
        return self._roster

    def states(self) -> Iterator[GpuState]:
        """What the fold remembers of each."""
        return (watched.state for watched in self._watched.values())

    def until(self, now: Moment) -> Iterator[Happening]:
        """Lets time pass: dwells end, probation ends, counts run out, each at its own instant."""
        while True:
            due = [(each.next_at, name) for name, each in self._watched.items() if each.next_at is not None]
            if not due or min(due)[0] + _ROUNDING_SECONDS > now.at:
                return
            at, name = min(due)
            at += _ROUNDING_SECONDS
            yield from self._judge((name,), Moment(at=at, time=now.time - timedelta(seconds=now.at - at)))

    def take(self, signal: GpuSignal, now: Moment) -> Iterator[Happening]:
        """Folds a signal into the GPUs that it means. One that means none is counted."""
        signal, meant = self._roster.meant(signal)
        self._tally.unattributed += not meant
        yield from self._judge([name for name in meant if self._fold(name, signal, now)], now)

    def begin_anew(self, now: Moment, *, is_boot: bool) -> Iterator[Happening]:
        """A boot or a driver load, for all of them.

        A node that has booted is taken to have brought its GPUs up, until a line says otherwise. The driver announces its
        load after it has probed the GPUs, also those that failed: a load alone repairs nothing.
        """
        for watched in self._watched.values():
            is_presumed = is_boot and not watched.is_read
            watched.state = begun_anew(watched.state, now, self._policy, is_presumed=is_presumed)
            watched.is_unproven = not is_boot and not watched.is_read
            if watched.isolation is not None:
                watched.isolation.is_settled = True
        yield from self._judge(tuple(self._watched), now)

    def none_up(self, now: Moment) -> Iterator[Happening]:
        """The driver has brought up no GPU of the node, which a boot alone lets presume."""
        for bus_id in dict.fromkeys(gpu.bus_id for gpu in self._roster.gpus.values()):
            yield from self.take(InitFailureReport(source=Source.KMSG, seen=now, bus_id=bus_id), now)

    def advise(self, bus_id: PciBusId, hint: str) -> None:
        """Adds to the advice about the GPU in that slot."""
        for name, watched in self._watched.items():
            if self._roster.gpus[name].bus_id == bus_id:
                watched.hint = hint

    def end(self, now: Moment) -> None:
        """Closes the isolations that last to the end of the log."""
        for watched in self._watched.values():
            if watched.isolation is not None:
                watched.seconds_out += now.at - watched.isolation.began.at
                self._tally.close(watched.isolation)

    def ends(self, now: Moment) -> list[GpuEnd]:
        """How the log leaves each of them, in the order of their names."""
        return [self._ended(name, watched, now) for name, watched in sorted(self._watched.items())]

    def _fold(self, name: GpuUuid, signal: GpuSignal, now: Moment) -> bool:
        """Whether the fold had to look: of a flood of one XID within a second it needs the first only."""
        watched = self._watched.get(name) or self._met(name, now)
        if isinstance(signal, XidReport):
            _count(watched, signal.code)
            second = replace(_NEVER, at=float(int(signal.seen.at)))
            same = replace(signal, seen=second, pid=None, process=None, record_seq=None)
            if same == watched.last_xid:
                return False
            watched.last_xid = same
        elif isinstance(signal, RecoveryActionReport):
            _count(watched, _RECOVERY_ACTION)
        elif isinstance(signal, Reading):
            watched.is_read = True
        if watched.isolation is not None:
            weigh(watched.isolation, signal, self._policy)
        watched.state = advance(watched.state, now.at, self._policy)
        if watched.is_unproven and shows_work(signal):
            watched.is_unproven = False
            watched.state = come_up(watched.state, signal.seen, self._policy)
        elif watched.state.fault(_INIT_FAILED) is not None and not watched.is_read and shows_work(signal):
            watched.state = at_work(watched.state, signal.seen, self._policy)
        watched.state = folded(watched.state, signal, self._policy, is_read=watched.is_read)
        return True

    def _met(self, name: GpuUuid, now: Moment) -> _Watched:
        """A GPU heard of for the first time: it was there all along, and well as far as the log goes."""
        state = initial_state(self._roster.gpus[name], replace(now, at=now.at - 1))
        judged = verdict(seen_now(state, now), now, self._policy)
        self._watched[name] = _Watched(state=state, verdict=judged, since=now)
        return self._watched[name]

    def _judge(self, names: Iterable[GpuUuid], now: Moment) -> Iterator[Happening]:
        is_news = False
        for name in names:
            watched = self._watched[name]
            watched.state = advance(watched.state, now.at, self._policy)
            shown = watched.state if watched.is_read else seen_now(watched.state, now)
            before, watched.verdict = watched.verdict, verdict(shown, now, self._policy)
            # A GPU that can be read at any time never goes blind.
            lasting = watched.state if watched.is_read else replace(watched.state, last_ok_at=None)
            watched.next_at = next_change_at(lasting, now.at, self._policy)
            if watched.isolation is not None:
                weigh_witnesses(watched.isolation, watched.verdict)
            if _told(before) != _told(watched.verdict):
                is_news = True
                watched.since = watched.since if before.state is watched.verdict.state else now
                yield _judged(name, watched.verdict, now)
        if is_news:
            yield from self._isolate(now)

    def _isolate(self, now: Moment) -> Iterator[Happening]:
        verdicts = [each.verdict for each in self._watched.values()]
        verdicts += self._unnamed[self._roster.physical() :]
        already = frozenset(name for name, each in self._watched.items() if each.isolation is not None)
        out = isolated(verdicts, self._policy, already, self._roster.parents())
        for name, watched in self._watched.items():
            if name in out and watched.isolation is None:
                yield self._isolated(name, watched, now)
            elif name not in out and watched.isolation is not None:
                yield self._returned(name, watched, watched.isolation, now)

    def _isolated(self, name: GpuUuid, watched: _Watched, now: Moment) -> Happening:
        self._tally.isolations += 1
        watched.isolations += 1
        watched.isolation = Isolation(
            gpu=name, reason=watched.verdict.reason, began=now, number=watched.isolations
        )
        if len(self._tally.kept) < MAX_KEPT:
            self._tally.kept.append(watched.isolation)
        weigh_witnesses(watched.isolation, watched.verdict)
        text = f"would leave service: {watched.verdict.reason}"
        return Happening(kind=Kind.ISOLATED, seen=now, gpu=name, text=text, verdict=watched.verdict)

    def _returned(self, name: GpuUuid, watched: _Watched, isolation: Isolation, now: Moment) -> Happening:
        watched.isolation, isolation.ended_at = None, now.at
        watched.seconds_out += now.at - isolation.began.at
        self._tally.close(isolation)
        text = f"would be back in service; {isolation.outcome.value}: {isolation.because}"
        return Happening(kind=Kind.RETURNED, seen=now, gpu=name, text=text, verdict=watched.verdict)

    def _ended(self, name: GpuUuid, watched: _Watched, now: Moment) -> GpuEnd:
        cause = watched.state.fault(watched.verdict.reason)
        return GpuEnd(
            gpu=name,
            uuid=self._roster.uuids.get(name, GpuUuid("")),
            verdict=watched.verdict,
            is_isolated=watched.isolation is not None,
            since=watched.since,
            next_change_seconds=None if watched.next_at is None else watched.next_at - now.at,
            person="; ".join(
                filter(
                    None,
                    (
                        person_should(watched.verdict.reason, None if cause is None else cause.rule),
                        watched.hint,
                    ),
                )
            ),
            xids=tuple(sorted(watched.codes.items())),
            isolations=watched.isolations,
            seconds_out=watched.seconds_out,
        )


def _count(watched: _Watched, code: int) -> None:
    if code in watched.codes or len(watched.codes) < _MAX_CODES:
        watched.codes[code] = watched.codes.get(code, 0) + 1


def _told(judged: Verdict) -> tuple[object, ...]:
    """What the timeline tells of a verdict: the score alone, which ages by the hour, is no news."""
    return judged.state, judged.phase, judged.reason, judged.definitive


def _judged(name: GpuUuid, judged: Verdict, now: Moment) -> Happening:
    text = f"{judged.state.value}, score {judged.score}: {judged.message or 'nothing is wrong'}"
    return Happening(kind=Kind.VERDICT, seen=now, gpu=name, text=text, verdict=judged)
