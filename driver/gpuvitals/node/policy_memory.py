"""The stored policies of a node, decoded one by one: an unreadable policy costs itself and no other. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.health.policy import check_values
from gpuvitals.inventory.policy_match import PolicyMatch, PolicyRule
from gpuvitals.model.ids import GpuUuid

SCHEMA = 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPolicies:
    """The policies of a node. `labels`: its labels, None before the first read. `choices`: the newest match of each GPU."""

    schema: int = SCHEMA
    rules: dict[str, PolicyRule] = field(default_factory=dict)
    labels: dict[str, str] | None = None
    choices: dict[GpuUuid, PolicyMatch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    schema: int = SCHEMA
    rules: dict[str, msgspec.Raw] = field(default_factory=dict)
    labels: dict[str, str] | None = None
    choices: dict[str, msgspec.Raw] = field(default_factory=dict)


_KEPT = msgspec.json.Decoder(_Kept)
_RULE = msgspec.json.Decoder(PolicyRule)
_CHOICE = msgspec.json.Decoder(PolicyMatch)


def read_policies(payload: bytes) -> tuple[KnownPolicies, tuple[str, ...]]:
    """The readable policies, and one message per unreadable part. Raises msgspec.DecodeError if `payload` is no such file."""
    kept = decoded(_KEPT, payload)
    trouble: list[str] = []
    if kept.schema > SCHEMA:
        trouble.append(f"schema {kept.schema} of a newer version; this agent knows schema {SCHEMA}")
    rules = _readable(kept.rules, _RULE, trouble)
    choices = _readable(kept.choices, _CHOICE, trouble)
    known = KnownPolicies(
        schema=kept.schema,
        rules={name: rule for name, rule in rules.items() if _is_usable(name, rule, trouble)},
        labels=kept.labels,
        choices={
            GpuUuid(uuid): choice
            for uuid, choice in choices.items()
            if choice.rule is None or _is_usable(uuid, choice.rule, trouble)
        },
    )
    return known, tuple(trouble)


def _readable(
    raws: Mapping[str, msgspec.Raw], decoder: "msgspec.json.Decoder[T]", trouble: list[str]
) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, raw in raws.items():
        try:
            found[name] = decoded(decoder, raw)
        except msgspec.DecodeError as error:
            trouble.append(f"{name}: {error}")
    return found


def _is_usable(name: str, rule: PolicyRule, trouble: list[str]) -> bool:
    """Whether this version accepts the values. Another version may have other names and other limits."""
    try:
        check_values(dict(rule.health))
    except ValueError as error:
        trouble.append(f"{name}: {error}")
        return False
    return True
