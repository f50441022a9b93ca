"""One node's log under one policy: the fold of `health`, turned on the log's own time. Pure."""

from collections.abc import Iterator
from typing import assert_never

from gpuvitals.health.bursts import Burst, bursts
from gpuvitals.health.policy import Policy
from gpuvitals.model.clock import Moment
from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    GapReport,
    IdentityReport,
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

_MAX_SWITCH_ERRORS = 256


class History:
    """Takes what a LogReader heard, in its order; `tally` is whole after `end`."""

    def __init__(self, policy: Policy, node_gpus: int) -> None:
        self.tally = Tally()
        self._policy = policy
        self._gpus = GpuHistories(policy, node_gpus, self.tally)
        self._burst_lines = 0
        self._burst_at = 0.0
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
            case XidReport():
                self._burst_lines += 1
                self._burst_at = now.at
                yield from self._gpus.take(heard, now)
            case OffBusReport() if heard.bus_id is None and heard.uuid is None:
                self.tally.unattributed += 1
                yield _of_node(
                    now, "a GPU fell off the bus, and the line does not say which: the agent would probe all"
                )
            case (
                Reading()
                | OffBusReport()
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
        yield _of_node(now, f"{what}: what it repaired goes on probation")
        yield from self._gpus.begin_anew(now)

    def _burst_over(self, now: Moment) -> Iterator[Happening]:
        lines, self._burst_lines = self._burst_lines, 0
        found = bursts(self._gpus.states(), self._policy) if lines > 1 else ()
        if found and len(found[-1].xids) > 1:
            root = found[-1].root
            yield Happening(
                kind=Kind.BURST, seen=now, gpu=root.gpu, text=_burst_text(found[-1], lines, self._burst_at)
            )

    def _switch(self, error: SwitchReport, now: Moment) -> Iterator[Happening]:
        self.tally.switch_errors += 1
        self.tally.fatal_switch_errors += bool(error.fatal)
        key = (error.switch, error.code)
        if error.fatal and key not in self._switch_errors and len(self._switch_errors) < _MAX_SWITCH_ERRORS:
            self._switch_errors.add(key)
            link = "" if error.link is None else f" on link {error.link}"
            yield _of_node(
                now, f"NVSwitch {error.switch}: fatal SXid {error.code}{link}; the fabric's, no GPU is blamed"
            )


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
