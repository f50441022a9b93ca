"""Which policy governs a GPU: the rules of the cluster held against the node's labels and the device's own attributes.

A rule is one GPUHealthPolicy as far as a node needs it. Rules are not merged: exactly one governs a GPU, or none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.inventory.attributes import attributes_of
from gpuvitals.inventory.device import AttributeValue, Version
from gpuvitals.model.gpu import Gpu


class Mode(Enum):
    """How far the product may go, each including what stands before it.

    OBSERVE tells and takes nothing out of service. ISOLATE takes devices out. RESET and FULL are the controller's.
    """

    OBSERVE = "Observe"
    ISOLATE = "Isolate"
    RESET = "Reset"
    FULL = "Full"


_CAUTION = tuple(Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """One GPUHealthPolicy. It matches where every label and every device attribute is equal; none named is any.

    `health` are values of health.policy.Policy by name. `paused`: nothing enters or leaves service.
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
    """What holds for one GPU. `rule` names the policy, empty where none matches; `health` are all values in force.

    `tied` names policies of which none could be chosen; what held before goes on then.
    """

    health: Policy
    rule: str = ""
    mode: Mode = Mode.ISOLATE
    paused: bool = False
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyMatch:
    """The rule that was chosen, None where none matches, and the names of those that stood against each other."""

    rule: PolicyRule | None
    tied: tuple[str, ...] = ()


NO_CHOICE = PolicyMatch(None)
"""No rule matches: the agent's own file governs, in mode Isolate."""


def choice(
    rules: Iterable[PolicyRule], labels: Mapping[str, str], gpu: Gpu, before: PolicyMatch | None
) -> PolicyMatch:
    """The rule of the highest priority among those that match.

    Two of that priority that ask for different things are ambiguous: what was chosen `before` goes on, whatever it
    was. Where nothing was (None), the most careful of their modes holds, with the values of the agent's file.
    """
    matching = [rule for rule in rules if _matches(rule, labels, gpu)]
    if not matching:
        return NO_CHOICE
    highest = max(rule.priority for rule in matching)
    best = sorted((rule for rule in matching if rule.priority == highest), key=lambda rule: rule.name)
    if len({(rule.mode, rule.paused, rule.health) for rule in best}) == 1:
        return PolicyMatch(best[0])
    tied = tuple(rule.name for rule in best)
    return PolicyMatch(_careful(best) if before is None else before.rule, tied)


def governing(chosen: PolicyMatch, base: Policy) -> EffectivePolicy:
    """What the choice makes of the values in the agent's file. The rule's values were checked when it was read."""
    rule = chosen.rule
    if rule is None:
        return EffectivePolicy(health=base, tied=chosen.tied)
    return EffectivePolicy(
        health=policy_with(dict(rule.health), base),
        rule=rule.name,
        mode=rule.mode,
        paused=rule.paused,
        tied=chosen.tied,
    )


def in_service(wanted_out: bool, was_out: bool, rule: EffectivePolicy) -> tuple[bool, str]:
    """Whether a GPU is out of service, and why it is not although it should be: empty where it is as it should be."""
    if rule.paused:
        is_out, why = was_out, f"policy {rule.rule} is paused"
    elif rule.mode is Mode.OBSERVE:
        is_out, why = False, f"policy {rule.rule} is in mode Observe"
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
