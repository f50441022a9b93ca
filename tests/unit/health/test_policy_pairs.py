"""Contradicting policy values are rejected with both names; conflicts with the agent's settings are reported."""

from dataclasses import asdict
from pathlib import Path

import pytest

from gpuvitals.config import ConfigError, load_config
from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.health.policy_pairs import PAIRS, cel_rule, contradiction
from gpuvitals.health.policy_values import VALUES
from gpuvitals.inventory.policy_match import PolicyRule
from support.worlds.agent_world import AgentWorld


def settings(folder: Path, text: str) -> str:
    """The error for a configuration file; empty if the agent accepts it."""
    path = folder / "node.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_defaults_contradict_nothing() -> None:
    assert contradiction(asdict(Policy())) == ""


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.names[0])
def test_each_pair_is_refused_just_beyond_its_limit(pair: object) -> None:
    """Finding R4: the error names each of the fields and its value."""
    assert pair in PAIRS
    names, rule = next((each.names, each.rule) for each in PAIRS if each is pair)
    values = asdict(Policy())
    left, _, right = rule.partition(" >= ")
    limit = eval(right, {}, values)
    values = {**values, left: limit}
    minimum = next(value.minimum for value in VALUES if value.name == left)

    assert limit > minimum, "a limit that the minimum forbids already is no pair"
    assert policy_with({left: limit}) == Policy(**values)
    with pytest.raises(ValueError, match=left) as refused:
        policy_with({left: limit - 1})
    assert all(f"{name} " in str(refused.value) for name in names)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("poll_seconds: 5\npolicy: {blind_seconds: 14}", ("blind_seconds", "15")),
        (
            "poll_seconds: 6\npolicy: {blind_seconds: 17}",
            ("blind_seconds 17", "poll_seconds 6", "3 * poll_seconds"),
        ),
        ("poll_seconds: 60", ("blind_seconds 60", "poll_seconds 60")),
        ("poll_seconds: 20.5", ("blind_seconds 60", "poll_seconds 20.5")),
        (
            "poll_seconds: 10\npolicy: {level_clear_seconds: 19}",
            ("level_clear_seconds 19", "poll_seconds 10"),
        ),
        ("policy: {level_clear_seconds: 14}", ("level_clear_seconds 14", "level_confirm_seconds 15")),
        ("policy: {xid_memory_seconds: 100}", ("xid_memory_seconds 100", "xid_count_seconds 86400")),
        ("policy: {flap_window_seconds: 179}", ("flap_window_seconds 179", "flap_repairs 3")),
        ("policy: {dcgm_stale_seconds: 59}", ("dcgm_stale_seconds", "60")),
    ],
)
def test_the_agents_file_is_refused_with_the_names_of_both(
    tmp_path: Path, text: str, named: tuple[str, ...]
) -> None:
    """Finding R4: at the limit it is taken, just beyond it is refused."""
    refused = settings(tmp_path, text)

    assert refused.startswith(str(tmp_path / "node.yaml"))
    assert all(each in refused for each in named)


@pytest.mark.parametrize(
    "text",
    [
        "poll_seconds: 5\npolicy: {blind_seconds: 15}",
        "poll_seconds: 20",
        "poll_seconds: 60\npolicy: {blind_seconds: 180, level_clear_seconds: 120}",
        "policy: {level_clear_seconds: 15}",
        "policy: {flap_window_seconds: 180}",
    ],
)
def test_a_file_at_the_limits_is_taken(tmp_path: Path, text: str) -> None:
    assert settings(tmp_path, text) == ""


def rule(**health: int) -> PolicyRule:
    return PolicyRule(name="fleet", health=tuple(sorted(health.items())))


def test_a_policy_object_that_does_not_fit_the_agent_keeps_the_last_good_one(tmp_path: Path) -> None:
    """Finding R4: `PolicyInvalid` names both, in the object's spelling, and the version before governs on."""
    world = AgentWorld(tmp_path)
    world.resolver.known("fleet", rule(blind_seconds=90))
    world.begin()
    world.resolver.known("fleet", rule(blind_seconds=15, level_clear_seconds=9, level_confirm_seconds=0))
    world.turn(1010)

    assert world.agent.policy(world.agent.gpus[0].gpu.uuid).health.blind_seconds == 90
    (told,) = [entry for entry in world.events if entry.reason == "PolicyInvalid"]
    assert "levelClearSeconds 9 and poll_seconds 5" in told.message
    assert "the last good version of it stays in force" in told.message


def test_a_policy_object_is_checked_together_with_the_agents_own_values(tmp_path: Path) -> None:
    """Finding R4: the object alone is consistent."""
    world = AgentWorld(tmp_path)
    world.resolver.known("fleet", rule(xid_memory_seconds=3600))
    world.begin()

    assert world.agent.policy(world.agent.gpus[0].gpu.uuid).rule == ""
    (told,) = [entry for entry in world.events if entry.reason == "PolicyInvalid"]
    assert "xidMemorySeconds 3600 and xidCountSeconds 86400" in told.message


def test_the_api_server_has_the_same_rules() -> None:
    """The comparison is the same text in both languages."""
    assert cel_rule(PAIRS[0]) == (
        "!has(self.xidMemorySeconds) || !has(self.xidCountSeconds) || self.xidMemorySeconds >= self.xidCountSeconds"
    )
