"""The GPUs of a log under one policy: their fold states, verdicts and isolations over time. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gpuvitals.health.evaluate import advance
from gpuvitals.health.isolation import isolated
from gpuvitals.health.policy import Policy
from gpuvitals.health.reasons import operator_advice
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
from gpuvitals.replay.assumed_readings import (
    after_node_restart,
    fold_signal,
    readable_at,
    shows_gpu_up,
    with_assumed_reading,
    with_clean_reading,
)
from gpuvitals.replay.gpu_inventory import GpuInventory, unnamed_gpus
from gpuvitals.replay.isolations import apply_confidence, apply_signal
from gpuvitals.replay.timeline import EntryKind, GpuSummary, Isolation, Tally, TimelineEntry

MAX_KEPT = 1000
"""Isolations kept for the summary; further ones are only counted."""
_MAX_CODES = 64
_RECOVERY_ACTION = 154
_INIT_FAILED = Reason("InitFailed")
_ROUNDING_SECONDS = 0.001
"""Delay of scheduled evaluations, since a sum of floats can be slightly below the exact instant."""
_EPOCH = Moment(at=0.0, time=datetime.fromtimestamp(0, UTC))


@dataclass(slots=True)
class _GpuTrack:
    """One GPU or MIG instance during the replay. `has_readings`: the log contains NVML readings of it.

    `is_unproven`: the driver was reloaded, and no later line proves that it initialised the GPU.
    """

    state: GpuState
    verdict: Verdict
    since: Moment
    next_at: float | None = None
    has_readings: bool = False
    is_unproven: bool = False
    advice: str = ""
    isolation: Isolation | None = None
    isolations: int = 0
    seconds_out: float = 0.0
    codes: dict[int, int] = field(default_factory=dict)
    last_xid: XidReport | None = None


class GpuHistories:
    """All GPUs of the node. `node_gpus` is their least number; GPUs that the log never names count as healthy."""

    def __init__(self, policy: Policy, node_gpus: int, tally: Tally) -> None:
        self._policy = policy
        self._tally = tally
        self._inventory = GpuInventory()
        self._tracks: dict[GpuUuid, _GpuTrack] = {}
        self._unnamed = [
            verdict(readable_at(initial_state(gpu, _EPOCH), _EPOCH), _EPOCH, policy)
            for gpu in unnamed_gpus(node_gpus)
        ]

    @property
    def inventory(self) -> GpuInventory:
        """The GPUs and MIG instances named so far."""
        return self._inventory

    def states(self) -> Iterator[GpuState]:
        """The fold state of each GPU."""
        return (track.state for track in self._tracks.values())

    def advance_to(self, now: Moment) -> Iterator[TimelineEntry]:
        """Evaluates each GPU at every instant up to `now` at which its verdict can change without a signal."""
        while True:
            due = [(each.next_at, name) for name, each in self._tracks.items() if each.next_at is not None]
            if not due or min(due)[0] + _ROUNDING_SECONDS > now.at:
                return
            at, name = min(due)
            at += _ROUNDING_SECONDS
            yield from self._update_verdicts(
                (name,), Moment(at=at, time=now.time - timedelta(seconds=now.at - at))
            )

    def fold(self, signal: GpuSignal, now: Moment) -> Iterator[TimelineEntry]:
        """Folds a signal into the GPUs that it means. One that means none is counted."""
        signal, names = self._inventory.resolve(signal)
        self._tally.unattributed += not names
        yield from self._update_verdicts([name for name in names if self._fold(name, signal, now)], now)

    def restart(self, now: Moment, *, is_boot: bool) -> Iterator[TimelineEntry]:
        """Applies a boot or a driver load to all GPUs.

        After a boot the GPUs are assumed to be initialised until a line reports otherwise. The driver logs its load
        after it has probed all GPUs, including those that failed, so a load alone repairs nothing.
        """
        for track in self._tracks.values():
            assume_clean = is_boot and not track.has_readings
            track.state = after_node_restart(track.state, now, self._policy, assume_clean=assume_clean)
            track.is_unproven = not is_boot and not track.has_readings
            if track.isolation is not None:
                track.isolation.is_settled = True
        yield from self._update_verdicts(tuple(self._tracks), now)

    def fail_all(self, now: Moment) -> Iterator[TimelineEntry]:
        """Applies the report that the driver initialised no GPU of the node."""
        for bus_id in dict.fromkeys(gpu.bus_id for gpu in self._inventory.gpus.values()):
            yield from self.fold(InitFailureReport(source=Source.KMSG, seen=now, bus_id=bus_id), now)

    def advise(self, bus_id: PciBusId, advice: str) -> None:
        """Adds `advice` to the summary of the GPU in that slot."""
        for name, track in self._tracks.items():
            if self._inventory.gpus[name].bus_id == bus_id:
                track.advice = advice

    def close(self, now: Moment) -> None:
        """Closes the isolations that last to the end of the log, at `now`."""
        for track in self._tracks.values():
            if track.isolation is not None:
                track.seconds_out += now.at - track.isolation.began.at
                self._tally.close(track.isolation)

    def summaries(self, now: Moment) -> list[GpuSummary]:
        """The final state of each GPU, sorted by name."""
        return [self._summary(name, track, now) for name, track in sorted(self._tracks.items())]

    def _fold(self, name: GpuUuid, signal: GpuSignal, now: Moment) -> bool:
        """Folds a signal. False for a repetition of one XID within a second, which only counts."""
        track = self._tracks.get(name) or self._start_track(name, now)
        if isinstance(signal, XidReport):
            _count(track, signal.code)
            second = replace(_EPOCH, at=float(int(signal.seen.at)))
            same = replace(signal, seen=second, pid=None, process=None, record_seq=None)
            if same == track.last_xid:
                return False
            track.last_xid = same
        elif isinstance(signal, RecoveryActionReport):
            _count(track, _RECOVERY_ACTION)
        elif isinstance(signal, Reading):
            track.has_readings = True
        if track.isolation is not None:
            apply_signal(track.isolation, signal, self._policy)
        track.state = advance(track.state, now.at, self._policy)
        if track.is_unproven and shows_gpu_up(signal):
            track.is_unproven = False
            track.state = with_clean_reading(track.state, signal.seen, self._policy)
        elif track.state.fault(_INIT_FAILED) is not None and not track.has_readings and shows_gpu_up(signal):
            track.state = with_assumed_reading(track.state, signal.seen, self._policy)
        track.state = fold_signal(track.state, signal, self._policy, has_readings=track.has_readings)
        return True

    def _start_track(self, name: GpuUuid, now: Moment) -> _GpuTrack:
        """Starts the history of a GPU at its first line: it was present before and healthy as far as the log shows."""
        state = initial_state(self._inventory.gpus[name], replace(now, at=now.at - 1))
        judged = verdict(readable_at(state, now), now, self._policy)
        self._tracks[name] = _GpuTrack(state=state, verdict=judged, since=now)
        return self._tracks[name]

    def _update_verdicts(self, names: Iterable[GpuUuid], now: Moment) -> Iterator[TimelineEntry]:
        has_changed = False
        for name in names:
            track = self._tracks[name]
            track.state = advance(track.state, now.at, self._policy)
            shown = track.state if track.has_readings else readable_at(track.state, now)
            before, track.verdict = track.verdict, verdict(shown, now, self._policy)
            # A GPU that is assumed to be readable never becomes Unknown.
            lasting = track.state if track.has_readings else replace(track.state, last_ok_at=None)
            track.next_at = next_change_at(lasting, now.at, self._policy)
            if track.isolation is not None:
                apply_confidence(track.isolation, track.verdict)
            if _shown_fields(before) != _shown_fields(track.verdict):
                has_changed = True
                track.since = track.since if before.state is track.verdict.state else now
                yield _verdict_entry(name, track.verdict, now)
        if has_changed:
            yield from self._isolate(now)

    def _isolate(self, now: Moment) -> Iterator[TimelineEntry]:
        verdicts = [each.verdict for each in self._tracks.values()]
        verdicts += self._unnamed[self._inventory.gpu_count() :]
        already = frozenset(name for name, each in self._tracks.items() if each.isolation is not None)
        out = isolated(verdicts, self._policy, already, self._inventory.parents())
        for name, track in self._tracks.items():
            if name in out and track.isolation is None:
                yield self._isolation_entry(name, track, now)
            elif name not in out and track.isolation is not None:
                yield self._return_entry(name, track, track.isolation, now)

    def _isolation_entry(self, name: GpuUuid, track: _GpuTrack, now: Moment) -> TimelineEntry:
        self._tally.isolations += 1
        track.isolations += 1
        track.isolation = Isolation(gpu=name, reason=track.verdict.reason, began=now, number=track.isolations)
        if len(self._tally.kept) < MAX_KEPT:
            self._tally.kept.append(track.isolation)
        apply_confidence(track.isolation, track.verdict)
        text = f"would leave service: {track.verdict.reason}"
        return TimelineEntry(kind=EntryKind.ISOLATED, seen=now, gpu=name, text=text, verdict=track.verdict)

    def _return_entry(
        self, name: GpuUuid, track: _GpuTrack, isolation: Isolation, now: Moment
    ) -> TimelineEntry:
        track.isolation, isolation.ended_at = None, now.at
        track.seconds_out += now.at - isolation.began.at
        self._tally.close(isolation)
        text = f"would be back in service; {isolation.outcome.value}: {isolation.because}"
        return TimelineEntry(kind=EntryKind.RETURNED, seen=now, gpu=name, text=text, verdict=track.verdict)

    def _summary(self, name: GpuUuid, track: _GpuTrack, now: Moment) -> GpuSummary:
        cause = track.state.fault(track.verdict.reason)
        return GpuSummary(
            gpu=name,
            uuid=self._inventory.uuids.get(name, GpuUuid("")),
            verdict=track.verdict,
            is_isolated=track.isolation is not None,
            since=track.since,
            next_change_seconds=None if track.next_at is None else track.next_at - now.at,
            advice="; ".join(
                filter(
                    None,
                    (
                        operator_advice(track.verdict.reason, None if cause is None else cause.rule),
                        track.advice,
                    ),
                )
            ),
            xids=tuple(sorted(track.codes.items())),
            isolations=track.isolations,
            seconds_out=track.seconds_out,
        )


def _count(track: _GpuTrack, code: int) -> None:
    if code in track.codes or len(track.codes) < _MAX_CODES:
        track.codes[code] = track.codes.get(code, 0) + 1


def _shown_fields(judged: Verdict) -> tuple[object, ...]:
    """The fields that make a new timeline entry when they change. The score alone changes by the hour and makes none."""
    return judged.state, judged.phase, judged.reason, judged.definitive


def _verdict_entry(name: GpuUuid, judged: Verdict, now: Moment) -> TimelineEntry:
    text = f"{judged.state.value}, score {judged.score}: {judged.message or 'nothing is wrong'}"
    return TimelineEntry(kind=EntryKind.VERDICT, seen=now, gpu=name, text=text, verdict=judged)
