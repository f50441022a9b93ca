"""One node's log under one policy: the fold of `health`, turned on the log's own time. Pure."""

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
    GapReport,
    IdentityReport,
    InitFailureReport,
    InventoryReport,
    MonitorReport,
    OffBusReport,
    PresenceReport,
    Reading,
    RecoveryActionReport,
    StatementsReport,
    SwitchReport,
    XidReport,
)
from gpuvitals.replay.findings import Booted, GpuEnd, Happening, Heard, Kind, Tally
from gpuvitals.replay.gpu_histories import GpuHistories
from gpuvitals.replay.hints import Hint, HintKind, hint_text, surprise_down_text

_MAX_SWITCH_ERRORS = 256
_OFF_BUS_XID = 79


class History:
    """Takes what a LogReader heard, in its order; `tally` is whole after `end`."""

    def __init__(self, policy: Policy, node_gpus: int) -> None:
        self.tally = Tally()
        self._policy = policy
        self._gpus = GpuHistories(policy, node_gpus, self.tally)
        self._burst_lines = 0
        self._burst_at = 0.0
        self._burst_began = Moment(at=0.0, time=datetime.fromtimestamp(0, UTC))
        self._surprise: Hint | None = None
        self._reset_hinted = False
        self._driver_load = ""
        self._switch_errors: set[tuple[int, int]] = set()

    def take(self, heard: Heard, now: Moment) -> Iterator[Happening]:
        """What happens until `now`, when this was heard, and by it."""
        yield from self._until(now)
        match heard:
            case Booted():
                yield from self._booted(heard.what, now)
            case InventoryReport():
                self._gpus.roster.enlist(heard)
                if is_reload(self._driver_load, heard.driver_load):
                    yield from self._booted("driver load", now)
                self._driver_load = known_load(self._driver_load, heard.driver_load)
            case GapReport():
                yield _of_node(
                    now,
                    f"{heard.lost} records are missing from the log; the agent would read everything anew",
                )
            case MonitorReport():
                yield _of_node(now, f"{heard.source.value}: {heard.state.value} {heard.detail}".rstrip())
            case StatementsReport():
                yield _of_node(
                    now,
                    f"{heard.source.value}: {len(heard.statements)} statements; a log has no names for them",
                )
            case SwitchReport():
                yield from self._switch(heard, now)
            case Hint():
                yield from self._hinted(heard)
            case XidReport():
                if not self._burst_lines:
                    self._burst_began = now
                self._burst_lines += 1
                self._burst_at = now.at
                yield from self._gpus.take(heard, now)
                if heard.code == _OFF_BUS_XID and heard.bus_id is not None:
                    yield from self._fell_off(heard.bus_id, now)
            case OffBusReport() | InitFailureReport() if heard.bus_id is None and heard.uuid is None:
                self.tally.unattributed += 1
                what = "fell off the bus" if isinstance(heard, OffBusReport) else "could not be initialised"
                yield _of_node(
                    now, f"a GPU {what}, and the line does not say which: the agent would probe all"
                )
            case OffBusReport():
                yield from self._gpus.take(heard, now)
                if heard.bus_id is not None:
                    yield from self._fell_off(heard.bus_id, now)
            case (
                Reading()
                | InitFailureReport()
                | RecoveryActionReport()
                | IdentityReport()
                | Checkup()
                | PresenceReport()
                | ClearReport()
            ):
                yield from self._gpus.take(heard, now)
            case _:
                assert_never(heard)

    def end(self, now: Moment) -> Iterator[Happening]:
        """What happens until the end of the log. Isolations that last are counted with what is known by then."""
        yield from self._until(now)
        yield from self._burst_over(now)
        self._gpus.end(now)

    def ends(self, now: Moment) -> list[GpuEnd]:
        """How the log leaves each GPU that it names, in the order of their names."""
        return self._gpus.ends(now)

    def _until(self, now: Moment) -> Iterator[Happening]:
        if self._burst_lines and now.at - self._burst_at >= self._policy.burst_silence_seconds:
            yield from self._burst_over(now)
        yield from self._gpus.until(now)

    def _booted(self, what: str, now: Moment) -> Iterator[Happening]:
        self.tally.boots += what == "boot"
        self.tally.driver_loads += what != "boot"
        self._reset_hinted = False
        if what == "boot":
            yield _of_node(now, "boot: what it repaired goes on probation")
        else:
            yield _of_node(now, f"{what}: it repairs a GPU that the log shows at work after it")
        yield from self._gpus.begin_anew(now, is_boot=what == "boot")

    def _burst_over(self, now: Moment) -> Iterator[Happening]:
        lines, self._burst_lines = self._burst_lines, 0
        found = bursts(self._gpus.states(), self._policy) if lines > 1 else ()
        if found and len(found[-1].xids) > 1:
            root = found[-1].root
            yield Happening(
                kind=Kind.BURST,
                seen=self._burst_began,
                gpu=root.gpu,
                text=_burst_text(found[-1], lines, self._burst_at),
            )

    def _switch(self, error: SwitchReport, now: Moment) -> Iterator[Happening]:
        self.tally.switch_errors += 1
        self.tally.fatal_switch_errors += error.fatal is True
        self.tally.unrated_switch_errors += error.fatal is None
        key = (error.switch, error.code)
        is_told = key in self._switch_errors or len(self._switch_errors) >= _MAX_SWITCH_ERRORS
        if error.fatal is False or is_told:
            return
        self._switch_errors.add(key)
        severity = "fatal SXid" if error.fatal else "SXid of unknown severity"
        link = "" if error.link is None else f" on link {error.link}"
        yield _of_node(
            now, f"NVSwitch {error.switch}: {severity} {error.code}{link}; the fabric's, no GPU is blamed"
        )

    def _hinted(self, hint: Hint) -> Iterator[Happening]:
        match hint.kind:
            case HintKind.SURPRISE_DOWN:
                self._surprise = hint
                yield _of_node(hint.seen, hint_text(hint))
            case HintKind.RESET_REQUIRED:
                # The driver prints one for each refused call.
                if not self._reset_hinted:
                    self._reset_hinted = True
                    yield _of_node(hint.seen, hint_text(hint))
            case HintKind.NONE_UP:
                yield _of_node(hint.seen, hint_text(hint))
                yield from self._gpus.none_up(hint.seen)
            case _:
                assert_never(hint.kind)

    def _fell_off(self, bus_id: PciBusId, now: Moment) -> Iterator[Happening]:
        """Says once where to look if a PCIe link broke off just before the GPU was lost."""
        hint, self._surprise = self._surprise, None
        if hint is None or now.at - hint.seen.at >= self._policy.burst_silence_seconds:
            return
        text = surprise_down_text(hint.port)
        self._gpus.advise(bus_id, text)
        yield Happening(kind=Kind.NODE, seen=now, gpu=bus_id, text=text)


def _of_node(now: Moment, text: str) -> Happening:
    return Happening(kind=Kind.NODE, seen=now, gpu="", text=text)


def _burst_text(burst: Burst, lines: int, until: float) -> str:
    codes = ", ".join(str(code) for code in sorted({each.record.code for each in burst.xids}))
    gpus = len({each.gpu for each in burst.xids})
    how = ", as the driver says" if burst.is_named else ""
    return (
        f"burst of {lines} lines in {until - burst.first_at:.0f} s on {gpus} GPU{'s' if gpus != 1 else ''}: "
        f"XID {codes}; begun by XID {burst.root.record.code} on {burst.root.gpu}{how}"
    )
