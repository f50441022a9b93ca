"""The policy of a GPU: matching, precedence, ambiguity, and the effect of its mode on a verdict."""

from dataclasses import replace

import pytest

from gpuvitals.health.policy import Policy
from gpuvitals.inventory.policy_match import (
    NO_MATCH,
    EffectivePolicy,
    Mode,
    PolicyMatch,
    PolicyRule,
    effective_policy,
    matched_policy,
    service_state,
)
from support.worlds.snapshots import gpu

FLEET = PolicyRule(name="fleet", mode=Mode.OBSERVE)
LABELS = {"pool": "training", "rack": "r1"}


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (PolicyRule(name="all"), True),
        (PolicyRule(name="label", node_labels=(("pool", "training"),)), True),
        (PolicyRule(name="labels", node_labels=(("pool", "training"), ("rack", "r2"))), False),
        (PolicyRule(name="no-such-label", node_labels=(("zone", ""),)), False),
        (PolicyRule(name="product", device_attributes=(("productName", "NVIDIA H100 80GB HBM3"),)), True),
        (PolicyRule(name="number", device_attributes=(("minor", "3"),)), True),
        (PolicyRule(name="version", device_attributes=(("driverVersion", "535.54.3"),)), True),
        (PolicyRule(name="standard", device_attributes=(("resource.kubernetes.io/numaNode", "0"),)), False),
        (PolicyRule(name="health", device_attributes=(("health/state", "Healthy"),)), False),
    ],
    ids=lambda value: value.name if isinstance(value, PolicyRule) else str(value),
)
def test_a_rule_matches_where_every_label_and_attribute_is_equal(rule: PolicyRule, matches: bool) -> None:
    assert matched_policy([rule], LABELS, gpu(3), None) == (PolicyMatch(rule) if matches else NO_MATCH)


def test_the_highest_priority_governs_alone_and_nothing_is_merged() -> None:
    special = PolicyRule(name="special", priority=5, health=(("dwell_seconds", 7),))
    found = effective_policy(
        matched_policy([FLEET, special], LABELS, gpu(0), None), replace(Policy(), probation_seconds=9)
    )

    assert found == EffectivePolicy(
        rule="special",
        mode=Mode.ISOLATE,
        health=replace(Policy(), dwell_seconds=7, probation_seconds=9),
    )


def test_equals_that_ask_for_the_same_are_no_ambiguity() -> None:
    twin = replace(FLEET, name="a-twin", node_labels=(("pool", "training"),))

    assert matched_policy([FLEET, twin], LABELS, gpu(0), None) == PolicyMatch(twin)


@pytest.mark.parametrize("before", [PolicyMatch(PolicyRule(name="old", mode=Mode.FULL)), NO_MATCH])
def test_an_ambiguity_leaves_in_force_what_was_before(before: PolicyMatch) -> None:
    other = PolicyRule(name="other")

    assert matched_policy([FLEET, other], LABELS, gpu(0), before) == PolicyMatch(
        before.rule, ("fleet", "other")
    )


def test_an_ambiguity_from_the_start_is_governed_by_the_most_careful_mode() -> None:
    rules = [
        PolicyRule(name="full", mode=Mode.FULL, paused=True),
        replace(FLEET, health=(("dwell_seconds", 1),)),
    ]
    found = effective_policy(matched_policy(rules, LABELS, gpu(0), None), Policy())

    assert (found.mode, found.paused, found.health, found.tied) == (
        Mode.OBSERVE,
        True,
        Policy(),
        ("fleet", "full"),
    )


@pytest.mark.parametrize(
    ("mode", "paused", "wanted", "was", "out", "told"),
    [
        (Mode.ISOLATE, False, True, False, True, False),
        (Mode.ISOLATE, False, False, True, False, False),
        (Mode.FULL, False, True, False, True, False),
        (Mode.OBSERVE, False, True, True, False, True),
        (Mode.OBSERVE, False, False, False, False, False),
        (Mode.ISOLATE, True, True, False, False, True),
        (Mode.ISOLATE, True, True, True, True, False),
        (Mode.ISOLATE, True, False, True, True, False),
        (Mode.OBSERVE, True, True, False, False, True),
    ],
)
def test_the_mode_has_the_last_word_on_service(
    mode: Mode, paused: bool, wanted: bool, was: bool, out: bool, told: bool
) -> None:
    is_out, why = service_state(
        wanted, was, EffectivePolicy(health=Policy(), rule="p", mode=mode, paused=paused)
    )

    assert (is_out, bool(why)) == (out, told)
