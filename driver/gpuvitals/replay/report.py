"""A replay as text for a person and as JSON lines for a program. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from gpuvitals.model.clock import Moment
from gpuvitals.model.health import HealthState
from gpuvitals.replay.comparison import Difference
from gpuvitals.replay.counts import Counts
from gpuvitals.replay.findings import GpuEnd, Happening, Isolation, Tally

_SHOWN_ISOLATIONS = 50
_WIDTH = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Everything that the summary tells. `differences` is None where no second policy was given."""

    counts: Counts
    steps_back: int
    is_wall: bool
    began: Moment | None
    ended: Moment
    tally: Tally
    gpus: Sequence[GpuEnd]
    differences: Sequence[Difference] | None = None


def happening_text(happening: Happening, *, is_wall: bool) -> str:
    """One line of the timeline."""
    who = happening.gpu or "node"
    return f"{shown(happening.seen, is_wall=is_wall)}  {who:<{_WIDTH}}  {happening.text}"


def happening_json(happening: Happening, *, is_wall: bool) -> str:
    """The same as a line of JSON; `kind` says what it is."""
    judged = happening.verdict
    told: dict[str, object] = {
        "kind": happening.kind.value,
        "at": round(happening.seen.at, 6),
        "time": happening.seen.time.isoformat() if is_wall else None,
        "gpu": happening.gpu or None,
        "text": happening.text,
    }
    if judged is not None:
        told |= {"state": judged.state.value, "score": judged.score, "reason": judged.reason}
    return json.dumps(told)


def ending_text(ending: Ending) -> Iterator[str]:
    """The summary, line by line."""
    yield from _about_log(ending)
    yield from _about_gpus(
        ending.gpus, is_partial=ending.counts.is_incomplete or ending.counts.about_gpus > 0
    )
    yield from _about_isolations(ending)
    if ending.differences is not None:
        yield "" if ending.differences else "\nThe two policies judge this log alike."
        if ending.differences:
            yield "What the two policies judge differently:"
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
    """A moment for a person: the log's wall clock, or seconds since boot where it has none."""
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
        ("missing records", counts.lost, "faults may be among them"),
        (
            "lines with a driver's mark in no known form",
            counts.unread,
            "not judged: the answer is incomplete",
        ),
        ("damaged driver lines", counts.malformed, "not judged: the answer is incomplete"),
        ("lines whose form does not tell who wrote them", counts.unsigned, "taken to be the kernel's"),
        ("lines whose date can't be read", counts.undated, "taken to be of the time before them"),
        ("lines of other programs that name the driver", counts.mentions, "no effect"),
        ("lines that claim to be the driver's, not written by the kernel", counts.spoofed, "no effect"),
        ("lines that name no GPU", tally.unattributed, "no effect"),
        ("NVSwitch errors", tally.switch_errors, _severities(tally)),
        ("time stamps that step back", ending.steps_back, "give the oldest file first"),
    ):
        if count:
            yield f"  {name}: {count}" + (f" ({text})" if text else "")
    if len(counts.hosts) > 1:
        yield f"  lines of several nodes: {', '.join(counts.hosts)} (GPUs with one bus id count as one: replay one node at a time)"
    for sample in counts.samples:
        yield f"    {sample.where}: {sample.text}"
    if ending.began is None and counts.about_gpus:
        yield "  without time stamps nothing lasts or is quiet: dwells and probations can't be judged"


def _severities(tally: Tally) -> str:
    unknown = f", {tally.unrated_switch_errors} of unknown severity" if tally.unrated_switch_errors else ""
    return f"{tally.fatal_switch_errors} fatal{unknown}; the fabric's"


def _about_gpus(ends: Sequence[GpuEnd], *, is_partial: bool) -> Iterator[str]:
    yield ""
    if not ends:
        yield (
            "No GPU is named in what could be read." if is_partial else "The log says nothing about a GPU."
        )
        return
    for end in ends:
        xids = ", ".join(f"{code} x{times}" for code, times in end.xids) or "no XID"
        yield f"{end.gpu}{f'  {end.uuid}' if end.uuid else ''}"
        yield f"  now    {end.verdict.state.value}, score {end.verdict.score}, {end.verdict.reason}; " + (
            "out of service" if end.is_isolated else "in service"
        )
        if end.verdict.message:
            yield f"  why    {end.verdict.message}"
        yield f"  heard  {xids}; out {_times(end.isolations, 'time')}, {end.seconds_out:.0f} s in all"
        if end.next_change_seconds is not None and end.verdict.state is HealthState.DEGRADED:
            yield f"  next   re-evaluated {end.next_change_seconds:.0f} s after the end of the log"
        if not end.is_well:
            yield f"  do     {end.person}"


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


def _gpu(end: GpuEnd, *, is_wall: bool) -> dict[str, object]:
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
        "do": end.person,
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
