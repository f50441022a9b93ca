"""Selects the policy of a GPU: matches the cluster's rules against the Node's labels and the device's attributes.

A rule is one GPUHealthPolicy, reduced to the fields that a node needs. Rules are not merged: at most one applies to a
GPU. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.inventory.attributes import attributes_of
from gpuvitals.inventory.device import AttributeValue, Version
from gpuvitals.model.gpu import Gpu


class Mode(Enum):
    """The actions that a policy permits; each mode includes the modes before it.

    OBSERVE reports only. ISOLATE also takes devices out of service. RESET and FULL are for the controller.
    """

    OBSERVE = "Observe"
    ISOLATE = "Isolate"
    RESET = "Reset"
    FULL = "Full"


_CAUTION = tuple(Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """One GPUHealthPolicy. It matches if all its labels and device attributes are equal; an empty selector matches all.

    `health` are values of health.policy.Policy by name. While `paused`, no device enters or leaves service.
    """

    name: str
    priority: int = 0
    node_labels: tuple[tuple[str, str], ...] = ()
    device_attributes: tuple[tuple[str, str], ...] = ()
    mode: Mode = Mode.ISOLATE
    paused: bool = False
    health: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectivePolicy:
    """The policy in force for one GPU. `rule` is the policy's name, empty if none matches; `health` has all values.

    `tied` names policies of equal priority that disagree; the earlier choice stays in force then.
    """

    health: Policy
    rule: str = ""
    mode: Mode = Mode.ISOLATE
    paused: bool = False
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyMatch:
    """The selected rule, None if no rule matches, and the names of rules of equal priority that disagree."""

    rule: PolicyRule | None
    tied: tuple[str, ...] = ()


NO_MATCH = PolicyMatch(None)
"""No rule matches: the values of the agent's own file apply, in mode Isolate."""


def matched_policy(
    rules: Iterable[PolicyRule], labels: Mapping[str, str], gpu: Gpu, before: PolicyMatch | None
) -> PolicyMatch:
    """The matching rule of the highest priority.

    Rules of that priority that differ are ambiguous: the match `before` stays in force. Without one (None), the most
    careful of their modes applies, with the values of the agent's file.
    """
    matching = [rule for rule in rules if _matches(rule, labels, gpu)]
    if not matching:
        return NO_MATCH
    highest = max(rule.priority for rule in matching)
    best = sorted((rule for rule in matching if rule.priority == highest), key=lambda rule: rule.name)
    if len({(rule.mode, rule.paused, rule.health) for rule in best}) == 1:
        return PolicyMatch(best[0])
    tied = tuple(rule.name for rule in best)
    return PolicyMatch(_careful(best) if before is None else before.rule, tied)


def effective_policy(match: PolicyMatch, base: Policy) -> EffectivePolicy:
    """The agent's own values with those of the matched rule on top. The rule's values are valid."""
    rule = match.rule
    if rule is None:
        return EffectivePolicy(health=base, tied=match.tied)
    return EffectivePolicy(
        health=policy_with(dict(rule.health), base),
        rule=rule.name,
        mode=rule.mode,
        paused=rule.paused,
        tied=match.tied,
    )


def service_state(wanted_out: bool, was_out: bool, policy: EffectivePolicy) -> tuple[bool, str]:
    """Whether a GPU is out of service, and the reason if its policy keeps it in service against its verdict."""
    if policy.paused:
        is_out, why = was_out, f"policy {policy.rule} is paused"
    elif policy.mode is Mode.OBSERVE:
        is_out, why = False, f"policy {policy.rule} is in mode Observe"
    else:
        is_out, why = wanted_out, ""
    return is_out, why if wanted_out and not is_out else ""


def _careful(rules: list[PolicyRule]) -> PolicyRule:
    return PolicyRule(
        name=rules[0].name,
        mode=min((rule.mode for rule in rules), key=_CAUTION.index),
        paused=any(rule.paused for rule in rules),
    )


def _matches(rule: PolicyRule, labels: Mapping[str, str], gpu: Gpu) -> bool:
    if any(labels.get(key) != value for key, value in rule.node_labels):
        return False
    if not rule.device_attributes:
        return True
    known = {key: _text(value) for key, value in attributes_of(gpu)}
    return all(known.get(key) == value for key, value in rule.device_attributes)


def _text(value: AttributeValue) -> str:
    if isinstance(value, Version):
        return value.text
    return str(value).lower() if isinstance(value, bool) else str(value)
