"""Formats a replay as text and as JSON lines. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from gpuvitals.model.clock import Moment
from gpuvitals.model.health import HealthState
from gpuvitals.replay.comparison import Difference
from gpuvitals.replay.counts import Counts
from gpuvitals.replay.timeline import GpuSummary, Isolation, Tally, TimelineEntry

_SHOWN_ISOLATIONS = 50
_WIDTH = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The input of the summary. `differences` is None if no second policy was given."""

    counts: Counts
    steps_back: int
    is_wall: bool
    began: Moment | None
    ended: Moment
    tally: Tally
    gpus: Sequence[GpuSummary]
    differences: Sequence[Difference] | None = None


def entry_text(entry: TimelineEntry, *, is_wall: bool) -> str:
    """One line of the timeline."""
    subject = entry.gpu or "node"
    return f"{shown(entry.seen, is_wall=is_wall)}  {subject:<{_WIDTH}}  {entry.text}"


def entry_json(entry: TimelineEntry, *, is_wall: bool) -> str:
    """One entry of the timeline as a line of JSON; `kind` is its EntryKind."""
    judged = entry.verdict
    fields: dict[str, object] = {
        "kind": entry.kind.value,
        "at": round(entry.seen.at, 6),
        "time": entry.seen.time.isoformat() if is_wall else None,
        "gpu": entry.gpu or None,
        "text": entry.text,
    }
    if judged is not None:
        fields |= {"state": judged.state.value, "score": judged.score, "reason": judged.reason}
    return json.dumps(fields)


def ending_text(ending: Ending) -> Iterator[str]:
    """The summary, line by line."""
    yield from _about_log(ending)
    yield from _about_gpus(
        ending.gpus, is_partial=ending.counts.is_incomplete or ending.counts.about_gpus > 0
    )
    yield from _about_isolations(ending)
    if ending.differences is not None:
        yield "" if ending.differences else "\nBoth policies give the same result for this log."
        if ending.differences:
            yield "Differences between the two policies:"
        for each in ending.differences:
            yield f"  {each.gpu:<{_WIDTH}}  {each.text}"


def ending_json(ending: Ending) -> str:
    """The summary as one line of JSON, `kind` being `summary`."""
    tally = {name: value for name, value in asdict(ending.tally).items() if name != "kept"}
    return json.dumps(
        {
            "kind": "summary",
            "log": asdict(ending.counts) | {"steps_back": ending.steps_back},
            "began": _stamp(ending.began, is_wall=ending.is_wall),
            "ended": _stamp(ending.ended, is_wall=ending.is_wall),
            **tally,
            "false_isolations": {
                "least": ending.tally.contradicted,
                "most": ending.tally.contradicted + ending.tally.undecided,
            },
            "gpus": [_gpu(end, is_wall=ending.is_wall) for end in ending.gpus],
            "isolations_kept": [_isolation(each, is_wall=ending.is_wall) for each in ending.tally.kept],
            "differences": None
            if ending.differences is None
            else [asdict(each) for each in ending.differences],
        }
    )


def shown(moment: Moment, *, is_wall: bool) -> str:
    """A moment as text: the log's wall clock, or seconds since boot if it has none."""
    if is_wall:
        return moment.time.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"+{moment.at:.3f} s"


def _about_log(ending: Ending) -> Iterator[str]:
    counts, tally = ending.counts, ending.tally
    yield ""
    span = "no time stamps"
    if ending.began is not None:
        began = shown(ending.began, is_wall=ending.is_wall)
        span = f"{began} to {shown(ending.ended, is_wall=ending.is_wall)}"
    yield f"lines: {counts.lines} of {_times(counts.files, 'file')}, {span}; {counts.about_gpus} about GPUs"
    for name, count, text in (
        ("boots", tally.boots, ""),
        ("driver loads", tally.driver_loads, ""),
        ("missing records", counts.lost, "may have reported faults"),
        (
            "driver lines in an unknown format",
            counts.unread,
            "not evaluated: the result is incomplete",
        ),
        ("damaged driver lines", counts.malformed, "not evaluated: the result is incomplete"),
        ("lines in a format without the writer", counts.unsigned, "assumed to be from the kernel"),
        ("lines with an unreadable date", counts.undated, "assumed to have the time of the line before"),
        ("lines of other programs that quote the driver", counts.mentions, "no effect"),
        ("lines that imitate the driver, not written by the kernel", counts.spoofed, "no effect"),
        ("lines that name no GPU", tally.unattributed, "no effect"),
        ("NVSwitch errors", tally.switch_errors, _severities(tally)),
        ("time stamps that step back", ending.steps_back, "pass the oldest file first"),
    ):
        if count:
            yield f"  {name}: {count}" + (f" ({text})" if text else "")
    if len(counts.hosts) > 1:
        yield f"  lines of several nodes: {', '.join(counts.hosts)} (GPUs with the same bus ID count as one GPU: replay one node at a time)"
    for sample in counts.samples:
        yield f"    {sample.where}: {sample.text}"
    if ending.began is None and counts.about_gpus:
        yield "  no time stamps: dwell times and probation can't be evaluated"


def _severities(tally: Tally) -> str:
    unknown = f", {tally.unrated_switch_errors} of unknown severity" if tally.unrated_switch_errors else ""
    return f"{tally.fatal_switch_errors} fatal{unknown}; attributed to no GPU"


def _about_gpus(ends: Sequence[GpuSummary], *, is_partial: bool) -> Iterator[str]:
    yield ""
    if not ends:
        yield ("The readable lines name no GPU." if is_partial else "The log has no line about a GPU.")
        return
    for end in ends:
        xids = ", ".join(f"{code} x{times}" for code, times in end.xids) or "none"
        yield f"{end.gpu}{f'  {end.uuid}' if end.uuid else ''}"
        yield f"  state  {end.verdict.state.value}, score {end.verdict.score}, {end.verdict.reason}; " + (
            "out of service" if end.is_isolated else "in service"
        )
        if end.verdict.message:
            yield f"  cause  {end.verdict.message}"
        yield f"  XIDs   {xids}; out of service {_times(end.isolations, 'time')}, {end.seconds_out:.0f} s in total"
        if end.next_change_seconds is not None and end.verdict.state is HealthState.DEGRADED:
            yield f"  next   re-evaluated {end.next_change_seconds:.0f} s after the end of the log"
        if not end.is_well:
            yield f"  action {end.advice}"


def _about_isolations(ending: Ending) -> Iterator[str]:
    tally = ending.tally
    yield ""
    if not tally.isolations:
        yield "No GPU would have been taken out of service."
        return
    least, most = tally.contradicted, tally.contradicted + tally.undecided
    rate = f"{least}" if least == most else f"between {least} and {most}"
    yield (
        f"{_times(tally.isolations, 'would-be isolation')}: {tally.confirmed} confirmed, {tally.contradicted} contradicted, "
        f"{tally.undecided} undecided; false: {rate}"
    )
    for each in tally.kept[:_SHOWN_ISOLATIONS]:
        began = shown(each.began, is_wall=ending.is_wall)
        lasted = "to the end" if each.ended_at is None else f"{each.ended_at - each.began.at:.0f} s"
        yield (
            f"  {began}  {each.gpu:<{_WIDTH}}  {each.reason}, {lasted}; {each.outcome.value}: {each.because}"
        )
    if tally.isolations > _SHOWN_ISOLATIONS:
        yield f"  and {tally.isolations - _SHOWN_ISOLATIONS} more"


def _gpu(end: GpuSummary, *, is_wall: bool) -> dict[str, object]:
    judged = end.verdict
    return {
        "gpu": end.gpu,
        "uuid": end.uuid or None,
        "state": judged.state.value,
        "score": judged.score,
        "reason": judged.reason,
        "why": judged.message,
        "out": end.is_isolated,
        "since": _stamp(end.since, is_wall=is_wall),
        "nextChangeSeconds": end.next_change_seconds,
        "do": end.advice,
        "xids": {str(code): times for code, times in end.xids},
        "isolations": end.isolations,
        "secondsOut": round(end.seconds_out, 3),
    }


def _isolation(each: Isolation, *, is_wall: bool) -> dict[str, object]:
    return {
        "gpu": each.gpu,
        "reason": each.reason,
        "began": _stamp(each.began, is_wall=is_wall),
        "secondsOut": None if each.ended_at is None else round(each.ended_at - each.began.at, 3),
        "outcome": each.outcome.value,
        "because": each.because,
    }


def _times(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _stamp(moment: Moment | None, *, is_wall: bool) -> dict[str, object] | None:
    if moment is None:
        return None
    return {"at": round(moment.at, 6), "time": moment.time.isoformat() if is_wall else None}
