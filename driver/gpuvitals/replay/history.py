"""Replay of one node's log under one policy, on the log's own time. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import assert_never

from gpuvitals.health.bursts import Burst, bursts
from gpuvitals.health.policy import Policy
from gpuvitals.model.clock import Moment
from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    ExternalReports,
    GapReport,
    IdentityReport,
    InitFailureReport,
    InventoryReport,
    MonitorReport,
    OffBusReport,
    PresenceReport,
    Reading,
    RecoveryActionReport,
    SwitchReport,
    XidReport,
)
from gpuvitals.replay.advisories import Advisory, AdvisoryKind, advisory_text, surprise_down_text
from gpuvitals.replay.gpu_histories import GpuHistories
from gpuvitals.replay.timeline import EntryKind, GpuSummary, LogEvent, Restart, Tally, TimelineEntry

_MAX_SWITCH_ERRORS = 256
_OFF_BUS_XID = 79


class History:
    """Replays the events of a LogReader in order. `tally` is complete after `end`."""

    def __init__(self, policy: Policy, node_gpus: int) -> None:
        self.tally = Tally()
        self._policy = policy
        self._gpus = GpuHistories(policy, node_gpus, self.tally)
        self._burst_lines = 0
        self._burst_at = 0.0
        self._burst_began = Moment(at=0.0, time=datetime.fromtimestamp(0, UTC))
        self._surprise: Advisory | None = None
        self._reset_advised = False
        self._driver_load = ""
        self._switch_errors: set[tuple[int, int]] = set()

    def take(self, event: LogEvent, now: Moment) -> Iterator[TimelineEntry]:
        """The timeline entries up to `now`, the time of `event`, and those that the event causes."""
        yield from self._advance(now)
        match event:
            case Restart():
                yield from self._restarted(event.what, now)
            case InventoryReport():
                yield from self._inventory(event, now)
            case GapReport() | MonitorReport() | ExternalReports():
                yield _node_entry(now, _source_text(event))
            case SwitchReport():
                yield from self._add_switch_error(event, now)
            case Advisory():
                yield from self._add_advisory(event)
            case XidReport():
                yield from self._xid(event, now)
            case OffBusReport() | InitFailureReport() if event.bus_id is None and event.uuid is None:
                self.tally.unattributed += 1
                yield _node_entry(now, _unattributed_text(event))
            case OffBusReport():
                yield from self._gpus.fold(event, now)
                if event.bus_id is not None:
                    yield from self._gpu_fell_off(event.bus_id, now)
            case (
                Reading()
                | InitFailureReport()
                | RecoveryActionReport()
                | IdentityReport()
                | Checkup()
                | PresenceReport()
                | ClearReport()
            ):
                yield from self._gpus.fold(event, now)
            case _:
                assert_never(event)

    def end(self, now: Moment) -> Iterator[TimelineEntry]:
        """The timeline entries up to the end of the log. Counts the isolations that are still open."""
        yield from self._advance(now)
        yield from self._end_burst(now)
        self._gpus.close(now)

    def summaries(self, now: Moment) -> list[GpuSummary]:
        """The final state of each GPU that the log names, sorted by name."""
        return self._gpus.summaries(now)

    def _advance(self, now: Moment) -> Iterator[TimelineEntry]:
        if self._burst_lines and now.at - self._burst_at >= self._policy.burst_silence_seconds:
            yield from self._end_burst(now)
        yield from self._gpus.advance_to(now)

    def _inventory(self, report: InventoryReport, now: Moment) -> Iterator[TimelineEntry]:
        self._gpus.inventory.add_report(report)
        if is_reload(self._driver_load, report.driver_load):
            yield from self._restarted("driver load", now)
        self._driver_load = known_load(self._driver_load, report.driver_load)

    def _xid(self, report: XidReport, now: Moment) -> Iterator[TimelineEntry]:
        if not self._burst_lines:
            self._burst_began = now
        self._burst_lines += 1
        self._burst_at = now.at
        yield from self._gpus.fold(report, now)
        if report.code == _OFF_BUS_XID and report.bus_id is not None:
            yield from self._gpu_fell_off(report.bus_id, now)

    def _restarted(self, what: str, now: Moment) -> Iterator[TimelineEntry]:
        self.tally.boots += what == "boot"
        self.tally.driver_loads += what != "boot"
        self._reset_advised = False
        if what == "boot":
            yield _node_entry(now, "boot: repaired GPUs go on probation")
        else:
            yield _node_entry(now, f"{what}: repairs the GPUs that the log shows in use afterwards")
        yield from self._gpus.restart(now, is_boot=what == "boot")

    def _end_burst(self, now: Moment) -> Iterator[TimelineEntry]:
        lines, self._burst_lines = self._burst_lines, 0
        found = bursts(self._gpus.states(), self._policy) if lines > 1 else ()
        if found and len(found[-1].xids) > 1:
            root = found[-1].root
            yield TimelineEntry(
                kind=EntryKind.BURST,
                seen=self._burst_began,
                gpu=root.gpu,
                text=_burst_text(found[-1], lines, self._burst_at),
            )

    def _add_switch_error(self, error: SwitchReport, now: Moment) -> Iterator[TimelineEntry]:
        self.tally.switch_errors += 1
        self.tally.fatal_switch_errors += error.fatal is True
        self.tally.unrated_switch_errors += error.fatal is None
        key = (error.switch, error.code)
        is_known = key in self._switch_errors or len(self._switch_errors) >= _MAX_SWITCH_ERRORS
        if error.fatal is False or is_known:
            return
        self._switch_errors.add(key)
        severity = "fatal SXid" if error.fatal else "SXid of unknown severity"
        link = "" if error.link is None else f" on link {error.link}"
        yield _node_entry(
            now,
            f"NVSwitch {error.switch}: {severity} {error.code}{link}; a fabric error, attributed to no GPU",
        )

    def _add_advisory(self, advisory: Advisory) -> Iterator[TimelineEntry]:
        match advisory.kind:
            case AdvisoryKind.SURPRISE_DOWN:
                self._surprise = advisory
                yield _node_entry(advisory.seen, advisory_text(advisory))
            case AdvisoryKind.RESET_REQUIRED:
                # The driver prints this line for each rejected call.
                if not self._reset_advised:
                    self._reset_advised = True
                    yield _node_entry(advisory.seen, advisory_text(advisory))
            case AdvisoryKind.NO_GPU_INITIALIZED:
                yield _node_entry(advisory.seen, advisory_text(advisory))
                yield from self._gpus.fail_all(advisory.seen)
            case _:
                assert_never(advisory.kind)

    def _gpu_fell_off(self, bus_id: PciBusId, now: Moment) -> Iterator[TimelineEntry]:
        """Adds advice, once, if a PCIe link was lost shortly before the GPU."""
        advisory, self._surprise = self._surprise, None
        if advisory is None or now.at - advisory.seen.at >= self._policy.burst_silence_seconds:
            return
        text = surprise_down_text(advisory.port)
        self._gpus.advise(bus_id, text)
        yield TimelineEntry(kind=EntryKind.NODE, seen=now, gpu=bus_id, text=text)


def _node_entry(now: Moment, text: str) -> TimelineEntry:
    return TimelineEntry(kind=EntryKind.NODE, seen=now, gpu="", text=text)


def _source_text(report: GapReport | MonitorReport | ExternalReports) -> str:
    match report:
        case GapReport():
            return f"{report.lost} records are missing from the log; the agent would read every GPU again"
        case MonitorReport():
            return f"{report.source.value}: {report.state.value} {report.detail}".rstrip()
        case ExternalReports():
            return f"{report.source.value}: {len(report.reports)} reports; a replay ignores them"
        case _:
            assert_never(report)


def _unattributed_text(report: OffBusReport | InitFailureReport) -> str:
    failure = "fell off the bus" if isinstance(report, OffBusReport) else "could not be initialised"
    return f"a GPU {failure}, and the line does not say which: the agent would probe all GPUs"


def _burst_text(burst: Burst, lines: int, until: float) -> str:
    codes = ", ".join(str(code) for code in sorted({each.record.code for each in burst.xids}))
    gpus = len({each.gpu for each in burst.xids})
    source = ", named by the driver" if burst.is_named else ""
    return (
        f"burst of {lines} lines in {until - burst.first_at:.0f} s on {gpus} GPU{'s' if gpus != 1 else ''}: "
        f"XID {codes}; started by XID {burst.root.record.code} on {burst.root.gpu}{source}"
    )
