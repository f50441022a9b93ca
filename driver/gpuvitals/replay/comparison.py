"""Comparison of two policies on one log: isolations, time out of service and final verdicts that differ. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpuvitals.replay.timeline import GpuSummary, Isolation


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: an isolation under only one policy, a different time out of service, or another final verdict."""

    gpu: str
    text: str


def differences(
    first: Sequence[GpuSummary],
    second: Sequence[GpuSummary],
    kept: tuple[Sequence[Isolation], Sequence[Isolation]],
) -> list[Difference]:
    """The differences, sorted by GPU. Both replays read the same log, so isolations match by GPU and start time."""
    found = [*_one_sided(kept[0], kept[1], "policy"), *_one_sided(kept[1], kept[0], "compare")]
    others = {end.gpu: end for end in second}
    for end in first:
        other = others[end.gpu]
        if round(end.seconds_out) != round(other.seconds_out):
            text = f"out of service for {end.seconds_out:.0f} s with policy, {other.seconds_out:.0f} s with compare"
            found.append(Difference(end.gpu, text))
        if (end.verdict.state, end.verdict.reason) != (other.verdict.state, other.verdict.reason):
            text = f"ends as {_end(end)} with policy, as {_end(other)} with compare"
            found.append(Difference(end.gpu, text))
    return sorted(found, key=lambda each: each.gpu)


def _one_sided(mine: Sequence[Isolation], others: Sequence[Isolation], whose: str) -> list[Difference]:
    made = {(each.gpu, each.began.at) for each in others}
    return [
        Difference(each.gpu, f"only with {whose}: out for {each.reason} ({each.outcome.value})")
        for each in mine
        if (each.gpu, each.began.at) not in made
    ]


def _end(end: GpuSummary) -> str:
    return f"{end.verdict.state.value} ({end.verdict.reason})"
