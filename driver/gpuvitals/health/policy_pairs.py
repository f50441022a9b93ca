"""Rules between policy values, and between policy values and the poll interval of a node."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-z]+(?:_[a-z]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPair:
    """`rule` is a comparison that the values of a policy must satisfy; `why` is the effect of a violation.

    The comparison is valid in Python and in CEL, so the API server and the agent check the same.
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
        why="an XID would be dropped while it still counts",
    ),
    PolicyPair(
        rule="level_clear_seconds >= level_confirm_seconds",
        why="an intermittent level would flap",
    ),
    PolicyPair(
        rule="flap_window_seconds >= flap_repairs * level_clear_seconds",
        why="a GPU could not be repaired this often within the window, so flapping would never be detected",
    ),
    PolicyPair(
        rule="burst_silence_seconds >= same_report_seconds",
        why="the next episode of an XID would count as the same report",
    ),
    PolicyPair(
        rule="decay_interval_seconds >= publish_interval_seconds",
        why="a score that changes by ageing would be published more often than other changes",
    ),
)
BLIND_POLLS = 3
CLEAR_POLLS = 2
_COMPARISON = re.compile(r"(\w+) >= (\w+)(?: \* (\w+))?\Z")


def contradiction(values: Mapping[str, int]) -> str:
    """The first rule that `values` violate, as a text that names its fields; empty if there is none."""
    for pair in PAIRS:
        left, right, factor = _terms(pair)
        wanted = values[right] * (values[factor] if factor else 1)
        if values[left] < wanted:
            given = " and ".join(f"{name} {values[name]}" for name in pair.names)
            return f"policy values {given}: expected {pair.rule}; {pair.why}"
    return ""


def poll_interval_conflict(values: Mapping[str, int], poll_seconds: float) -> str:
    """The conflict between these values and a poll interval, as a text; empty if there is none."""
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
    """`text` with each of `names` in camelCase, as in a GPUHealthPolicy."""
    return _NAME.sub(lambda match: camel(match[0]) if match[0] in names else match[0], text)


def cel_rule(pair: PolicyPair) -> str:
    """The pair as a CEL rule on `spec.health`, which also holds if one of the values is not set."""
    unset = [f"!has(self.{camel(name)})" for name in pair.names]
    compared = _NAME.sub(lambda match: f"self.{camel(match[0])}", pair.rule)
    return " || ".join([*unset, compared])


def _terms(pair: PolicyPair) -> tuple[str, str, str]:
    match = _COMPARISON.match(pair.rule)
    assert match is not None, f"{pair.rule!r} has another form"
    return match[1], match[2], match[3] or ""
