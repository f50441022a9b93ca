"""Policy values that contradict each other although each is valid alone, and those that a node's cadence does not fit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-z]+(?:_[a-z]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPair:
    """`rule` is a comparison that the values of a policy must satisfy; `why` says what happens otherwise.

    The comparison is valid Python and valid CEL alike, so the API server checks the same as the agent.
    """

    rule: str
    why: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the compared values, in their order in the rule."""
        return tuple(_NAME.findall(self.rule))


PAIRS = (
    PolicyPair(
        rule="xid_memory_seconds >= xid_count_seconds",
        why="an XID would still count that is forgotten already",
    ),
    PolicyPair(
        rule="level_clear_seconds >= level_confirm_seconds",
        why="a level that is bad now and then would flap",
    ),
    PolicyPair(
        rule="flap_window_seconds >= flap_repairs * level_clear_seconds",
        why="no GPU could be repaired that often within the window, so that none would be seen to flap",
    ),
    PolicyPair(
        rule="burst_silence_seconds >= same_report_seconds",
        why="the next episode of an XID would be taken for the same report",
    ),
    PolicyPair(
        rule="decay_interval_seconds >= publish_interval_seconds",
        why="a score that only ages would be written more often than one that moves",
    ),
)
BLIND_POLLS = 3
CLEAR_POLLS = 2
_COMPARISON = re.compile(r"(\w+) >= (\w+)(?: \* (\w+))?\Z")


def contradiction(values: Mapping[str, int]) -> str:
    """The first pair that `values` contradict, in one line that names its fields; empty where there is none."""
    for pair in PAIRS:
        left, right, factor = _terms(pair)
        wanted = values[right] * (values[factor] if factor else 1)
        if values[left] < wanted:
            given = " and ".join(f"{name} {values[name]}" for name in pair.names)
            return f"policy values {given}: expected {pair.rule}; {pair.why}"
    return ""


def poll_interval_conflict(values: Mapping[str, int], poll_seconds: float) -> str:
    """Why an agent that polls every `poll_seconds` can't judge by these values; empty where it can."""
    for name, polls, why in (
        ("blind_seconds", BLIND_POLLS, "one late answer would make every GPU Unknown"),
        ("level_clear_seconds", CLEAR_POLLS, "one good poll between two bad ones would end the fault"),
    ):
        if values[name] < polls * poll_seconds:
            return (
                f"policy value {name} {values[name]} and poll_seconds {poll_seconds:g}: "
                f"expected {name} >= {polls} * poll_seconds; {why}"
            )
    return ""


def camel(name: str) -> str:
    """The name of a policy value in a GPUHealthPolicy: `dwell_seconds` gives `dwellSeconds`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def as_object_fields(text: str, names: Mapping[str, object]) -> str:
    """`text` with each of `names` as it is written in a GPUHealthPolicy."""
    return _NAME.sub(lambda match: camel(match[0]) if match[0] in names else match[0], text)


def cel_rule(pair: PolicyPair) -> str:
    """The pair as a CEL rule on `spec.health`; it holds where one of the values is not set."""
    unset = [f"!has(self.{camel(name)})" for name in pair.names]
    compared = _NAME.sub(lambda match: f"self.{camel(match[0])}", pair.rule)
    return " || ".join([*unset, compared])


def _terms(pair: PolicyPair) -> tuple[str, str, str]:
    match = _COMPARISON.match(pair.rule)
    assert match is not None, f"{pair.rule!r} has another form"
    return match[1], match[2], match[3] or ""
