"""The policy resolver and the agent: modes on a live node, invalid policies, restarts."""

import json
from dataclasses import replace
from pathlib import Path

from gpuvitals.health.policy import Policy
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.policy_match import Mode, PolicyRule
from gpuvitals.inventory.pool import Pool, pool
from gpuvitals.inventory.taints import ServiceMode
from support.worlds.agent_world import AgentWorld, fault, gpu, inventory, reading

OBSERVE = PolicyRule(name="fleet", mode=Mode.OBSERVE)
ISOLATE = replace(OBSERVE, mode=Mode.ISOLATE)


def shown(world: AgentWorld) -> Pool:
    return pool(world.published[-1], Naming(), ServiceMode.TAINT)


def observed(folder: Path) -> AgentWorld:
    world = AgentWorld(folder)
    world.resolver.known("fleet", OBSERVE)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    return world


def test_observe_isolates_nothing_and_records_what_it_would_have_done(tmp_path: Path) -> None:
    world = observed(tmp_path)
    (first,) = shown(world).slices
    failed = next(device for device in first.devices if device.name == "gpu-0000-03-00-0")
    report = json.loads(dict(first.annotations)["vitals.internal/node-report"])

    assert [(taint.value, taint.effect.value) for taint in failed.taints] == [("Xid79", "None")]
    assert dict(failed.attributes)["health/score"] == 0
    assert report["spared"] == [
        {"device": failed.name, "reason": "Xid79", "why": "policy fleet is in mode Observe"}
    ]
    assert not any(entry.isolated for entry in world.published[-1].gpus)


def test_observe_keeps_a_failed_gpu_in_the_slice_where_devices_are_withdrawn(tmp_path: Path) -> None:
    snapshot = observed(tmp_path).published[-1]

    assert len(pool(snapshot, Naming(), ServiceMode.WITHDRAW).slices[0].devices) == 8


def test_a_switched_mode_is_one_publication_that_leaves_the_siblings_as_they_were(tmp_path: Path) -> None:
    world = observed(tmp_path)
    world.turn(1011, fault(5, 79, 1011))
    before = {device.name: device for device in shown(world).slices[0].devices}
    count = len(world.published)
    world.resolver.known("fleet", ISOLATE)
    world.turn(1012)
    after = {device.name: device for device in shown(world).slices[0].devices}

    assert len(world.published) == count + 1
    assert {name for name in after if after[name] != before[name]} == {"gpu-0000-03-00-0", "gpu-0000-05-00-0"}
    assert [taint.effect.value for taint in after["gpu-0000-03-00-0"].taints] == ["NoSchedule"]
    world.resolver.known("fleet", OBSERVE)
    world.turn(1013)
    assert {device.name: device for device in shown(world).slices[0].devices} == before


def test_a_mode_that_changes_nothing_is_not_published(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.resolver.known("fleet", OBSERVE)
    world.turn(1001)

    assert len(world.published) == 1
    assert world.agent.policy(gpu(0).uuid).mode is Mode.OBSERVE


def test_a_pause_keeps_in_service_what_is_in_and_out_what_is_out(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    world.resolver.known("fleet", replace(ISOLATE, paused=True))
    world.turn(1020, fault(4, 79, 1020))
    paused = [index for index, entry in enumerate(world.published[-1].gpus) if entry.isolated]
    world.resolver.known("fleet", ISOLATE)
    world.turn(1030)

    assert paused == [3]
    assert [index for index, entry in enumerate(world.published[-1].gpus) if entry.isolated] == [3, 4]


def test_a_policy_may_govern_one_gpu_by_its_attributes_and_one_node_by_its_labels(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path, labels={"pool": "a"})
    here = (("pool", "a"),)
    world.resolver.known(
        "one", PolicyRule(name="one", priority=1, device_attributes=(("uuid", "GPU-3"),), mode=Mode.OBSERVE)
    )
    world.resolver.known("here", PolicyRule(name="here", node_labels=here, health=(("dwell_seconds", 7),)))
    world.begin()
    world.turn(1010, fault(3, 79, 1010), fault(4, 79, 1010))

    assert [index for index, entry in enumerate(world.published[-1].gpus) if entry.isolated] == [4]
    assert world.agent.policy(gpu(3).uuid).health == Policy()
    assert world.agent.policy(gpu(4).uuid).health.dwell_seconds == 7
    world.resolver.labels({"pool": "b"})
    world.turn(1011)
    assert world.agent.policy(gpu(4).uuid).rule == ""


def test_a_policy_that_went_bad_leaves_the_last_good_one_in_force(tmp_path: Path) -> None:
    world = observed(tmp_path)
    world.resolver.refused("fleet", "spec.mode: invalid enum value 'Maybe'")
    world.turn(1020, fault(4, 79, 1020))

    assert not any(entry.isolated for entry in world.published[-1].gpus)
    (told,) = [each for each in world.events if each.reason == "PolicyInvalid"]
    assert "spec.mode" in told.message
    assert told.message.endswith("the last good version of it stays in force")


def test_an_ambiguity_leaves_in_force_what_was_and_is_told_once(tmp_path: Path) -> None:
    world = observed(tmp_path)
    world.resolver.known("other", PolicyRule(name="other"))
    world.turn(1020, fault(4, 79, 1020))
    world.turn(1021)

    assert not any(entry.isolated for entry in world.published[-1].gpus)
    told = [each.message for each in world.events if each.reason == "PolicyAmbiguous"]
    assert len(told) == 8
    assert "policies fleet, other" in told[0]
    world.resolver.known("other", PolicyRule(name="other", priority=1))
    world.turn(1022)
    assert [index for index, entry in enumerate(world.published[-1].gpus) if entry.isolated] == [3, 4]


def test_an_agent_that_starts_without_the_api_server_goes_by_the_last_policies(tmp_path: Path) -> None:
    observed(tmp_path)
    heir = AgentWorld(tmp_path, is_listed=False)
    heir.turn(1015, fault(4, 79, 1015))

    assert heir.resolver.is_settled
    assert not any(entry.isolated for entry in heir.published[-1].gpus)


def test_a_node_is_not_shown_before_its_policies_are_known_but_not_held_up_for_ever(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path, is_listed=False)
    world.begin()
    assert world.published == []
    world.turn(1004, fault(3, 79, 1004))
    assert world.published == []
    world.turn(1005.5)
    assert [index for index, entry in enumerate(world.published[-1].gpus) if entry.isolated] == [3]


def test_a_torn_file_costs_the_memory_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "policies.json").write_text("{")
    world = AgentWorld(tmp_path)
    world.turn(1000, inventory(1000), *(reading(index, 1000) for index in range(8)))

    assert world.agent.policy(gpu(0).uuid).mode is Mode.ISOLATE
    assert json.loads((tmp_path / "policies.json").read_text())["payload"]["schema"] == 1


def test_the_cap_of_a_node_is_the_lowest_of_its_policies(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    blind = {"isolate_unknown": 1, "isolation_cap_percent": 100}
    world.resolver.known("all", PolicyRule(name="all", health=tuple(sorted(blind.items()))))
    one = PolicyRule(
        name="one",
        priority=1,
        device_attributes=(("uuid", "GPU-0"),),
        health=(("isolate_unknown", 1), ("isolation_cap_percent", 25)),
    )
    world.resolver.known("one", one)
    world.begin()
    world.turn(1100)

    assert sum(entry.isolated for entry in world.published[-1].gpus) == 2
