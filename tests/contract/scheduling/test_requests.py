"""Allocation of requests: numbers, All, several requests, constraints, prioritized lists."""

import pytest

from contract.scheduling.world import Json, World, gpu

HEALTHY = 'device.attributes["health"].score > 90'
DEGRADED = 'device.attributes["health"].score > 50'
TAINT = {"key": "example.com/unhealthy", "value": "Xid79", "effect": "NoSchedule"}


def rack(number: int) -> Json:
    return {"rack": {"int": number}}


def test_the_status_of_an_allocated_claim(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train")
    assert world.placed("train")["spec"]["nodeName"] == f"{world.name}-a"
    claim = world.api.get(f"{world.claims}/train").body
    allocation = claim["status"]["allocation"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [f"{world.name}-a"]}]}
    result = {"request": "gpu", "driver": world.driver, "pool": f"{world.name}-a", "device": "gpu-0"}
    (consumer,) = claim["status"]["reservedFor"]
    assert claim["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
    assert sorted(claim["status"]) == ["allocation", "reservedFor"]
    assert sorted(allocation) == ["allocationTimestamp", "devices", "nodeSelector"]
    assert allocation["devices"] == {"results": [result]}
    assert allocation["nodeSelector"] == {"nodeSelectorTerms": [term]}
    assert (consumer["resource"], consumer["name"]) == ("pods", "train")
    assert world.scheduled("train") == ("True", "", "")
    bound = f"Successfully assigned {world.name}/train to {world.name}-a"
    world.told("train", ("Normal", "Scheduled", bound, "default-scheduler"))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_number_of_devices(world: World, count: int) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1", 50), gpu("gpu-2"), gpu("gpu-3"))
    world.submit("train", world.exactly("gpu", HEALTHY, count=count))
    assert world.taken("train") == ["gpu-0", "gpu-2", "gpu-3"][:count]


def test_more_devices_than_there_are(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("train", world.exactly(count=3))
    world.waits("train")


def test_more_devices_than_a_claim_may_have(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train", world.exactly(count=33))
    world.broken(
        "train",
        f"claim {world.name}/train, request gpu: adding 33 devices exceeds the claim limit of 32, with 0 already "
        "accounted for",
    )


def test_all_takes_what_the_selectors_name(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1", 50), gpu("gpu-2"))
    world.submit("train", world.exactly("gpu", HEALTHY, allocationMode="All"))
    assert world.taken("train") == ["gpu-0", "gpu-2"]


def test_all_of_nothing_waits(world: World) -> None:
    world.publish(gpu("gpu-0", 50))
    world.submit("train", world.exactly("gpu", HEALTHY, allocationMode="All"))
    world.waits("train")


def test_all_waits_while_one_of_them_is_in_use(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("one")
    world.taken("one")
    world.submit("all", world.exactly(allocationMode="All"))
    world.waits("all")
    world.delete_pod("one")
    assert world.taken("all") == ["gpu-0", "gpu-1"]


def test_all_waits_while_one_of_them_is_tainted(world: World) -> None:
    published = world.publish(gpu("gpu-0"), gpu("gpu-1", taints=[TAINT]))
    world.submit("all", world.exactly(allocationMode="All"))
    world.waits("all")
    del published["spec"]["devices"][1]["taints"]
    world.replace(world.slices, published)
    assert world.taken("all") == ["gpu-0", "gpu-1"]


def test_several_requests_share_the_devices(world: World) -> None:
    world.publish(gpu("gpu-0", 50), gpu("gpu-1"), gpu("gpu-2"))
    world.submit("train", world.exactly("any"), world.exactly("good", HEALTHY, count=2))
    assert world.held("train") == [("any", "gpu-0"), ("good", "gpu-1"), ("good", "gpu-2")]


def test_the_first_request_gives_way_to_the_second(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1", 50))
    world.submit("train", world.exactly("any"), world.exactly("good", HEALTHY))
    assert world.held("train") == [("any", "gpu-1"), ("good", "gpu-0")]


def test_two_claims_of_one_pod(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1", 50))
    world.claim("any")
    world.claim("good", world.exactly("gpu", HEALTHY))
    world.pod("train", "any", "good")
    world.placed("train")
    assert [result["device"] for name in ("any", "good") for result in world.results(name)] == [
        "gpu-1",
        "gpu-0",
    ]


def test_match_attribute_finds_devices_of_one_kind(world: World) -> None:
    world.publish(gpu("gpu-0", **rack(1)), gpu("gpu-1", **rack(2)), gpu("gpu-2", **rack(2)))
    world.submit("train", world.exactly(count=2), constraints=[{"matchAttribute": f"{world.driver}/rack"}])
    assert world.taken("train") == ["gpu-1", "gpu-2"]


def test_match_attribute_over_named_requests_only(world: World) -> None:
    world.publish(gpu("gpu-0", **rack(1)), gpu("gpu-1", **rack(2)), gpu("gpu-2", **rack(2)))
    pair = {"requests": ["b", "c"], "matchAttribute": f"{world.driver}/rack"}
    world.submit("train", *(world.exactly(name) for name in "abc"), constraints=[pair])
    assert world.held("train") == [("a", "gpu-0"), ("b", "gpu-1"), ("c", "gpu-2")]


def test_match_attribute_that_no_pair_has(world: World) -> None:
    world.publish(gpu("gpu-0", **rack(1)), gpu("gpu-1", **rack(2)), gpu("gpu-2"))
    world.submit("train", world.exactly(count=2), constraints=[{"matchAttribute": f"{world.driver}/rack"}])
    world.waits("train")


def test_distinct_attribute(world: World) -> None:
    world.publish(gpu("gpu-0", **rack(1)), gpu("gpu-1", **rack(1)), gpu("gpu-2", **rack(2)))
    world.submit("train", world.exactly(count=2), constraints=[{"distinctAttribute": f"{world.driver}/rack"}])
    assert world.taken("train") == ["gpu-0", "gpu-2"]


def test_distinct_attribute_that_is_missing(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("train", world.exactly(count=2), constraints=[{"distinctAttribute": f"{world.driver}/rack"}])
    world.waits("train")


def test_all_with_a_constraint_that_fails(world: World) -> None:
    world.publish(gpu("gpu-0", **rack(1)), gpu("gpu-1", **rack(2)))
    request = world.exactly(allocationMode="All")
    world.submit("train", request, constraints=[{"matchAttribute": f"{world.driver}/rack"}])
    world.broken(
        "train",
        f"claim {world.name}/train, request gpu: cannot add device {world.driver}/{world.name}-a/gpu-1 because a claim "
        "constraint would not be satisfied",
    )


def first(world: World) -> Json:
    return {
        "name": "gpu",
        "firstAvailable": [world.choice("healthy", HEALTHY), world.choice("degraded", DEGRADED)],
    }


def test_the_first_choice_then_the_second_then_none(world: World) -> None:
    world.publish(gpu("gpu-0", 60), gpu("gpu-1", 95), gpu("gpu-2", 40))
    world.submit("a", first(world))
    assert world.held("a") == [("gpu/healthy", "gpu-1")]
    world.submit("b", first(world))
    assert world.held("b") == [("gpu/degraded", "gpu-0")]
    world.submit("c", first(world))
    world.waits("c")


def test_a_better_choice_on_another_node_is_preferred(world: World) -> None:
    world.node("b")
    world.publish(gpu("gpu-0", 60))
    world.publish(gpu("gpu-0", 95), suffix="b")
    world.submit("train", first(world))
    assert world.held("train") == [("gpu/healthy", "gpu-0")]
    assert world.placed("train")["spec"]["nodeName"] == f"{world.name}-b"


def test_choices_of_different_size(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1", 60), gpu("gpu-2", 60))
    request = {
        "name": "gpu",
        "firstAvailable": [world.choice("two", HEALTHY, count=2), world.choice("three", DEGRADED, count=3)],
    }
    world.submit("train", request)
    assert world.held("train") == [("gpu/three", f"gpu-{number}") for number in range(3)]


def test_a_hole_behind_the_first_choice_is_not_met(world: World) -> None:
    world.publish(gpu("gpu-0"), {"name": "gpu-1", "attributes": {"health/other": {"int": 1}}})
    world.submit("train", first(world))
    assert world.held("train") == [("gpu/healthy", "gpu-0")]


def test_a_constraint_over_a_choice(world: World) -> None:
    world.publish(gpu("gpu-0", 60, **rack(1)), gpu("gpu-1", 95, **rack(2)), gpu("gpu-2", 60, **rack(2)))
    other = world.exactly("other")
    world.submit("train", first(world), other, constraints=[{"matchAttribute": f"{world.driver}/rack"}])
    assert world.held("train") == [("gpu/healthy", "gpu-1"), ("other", "gpu-2")]


def test_config_of_class_and_claim_goes_into_the_allocation(world: World) -> None:
    own = {"opaque": {"driver": world.driver, "parameters": {"from": "class"}}}
    name = world.device_class(suffix="-tuned", config=[own])
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    asked = {"requests": ["a"], "opaque": {"driver": world.driver, "parameters": {"from": "claim"}}}
    everywhere = {"opaque": {"driver": world.driver, "parameters": {"for": "all"}}}
    tuned = {"name": "a", "exactly": {"deviceClassName": name}}
    world.submit("train", tuned, world.exactly("b"), config=[asked, everywhere])
    world.placed("train")
    assert world.status("train")["allocation"]["devices"]["config"] == [
        {"source": "FromClass", "requests": ["a"], **own},
        {"source": "FromClaim", **asked},
        {"source": "FromClaim", **everywhere},
    ]


def test_config_of_a_choice(world: World) -> None:
    own = {"opaque": {"driver": world.driver, "parameters": {"from": "class"}}}
    name = world.device_class(suffix="-tuned", config=[own])
    world.publish(gpu("gpu-0"))
    choices = [{"name": part, "deviceClassName": name} for part in ("x", "y")]
    for_x, for_y = (
        {"requests": [f"gpu/{part}"], "opaque": {"driver": world.driver, "parameters": {"for": part}}}
        for part in ("x", "y")
    )
    world.submit("train", {"name": "gpu", "firstAvailable": choices}, config=[for_x, for_y])
    assert world.held("train") == [("gpu/x", "gpu-0")]
    assert world.status("train")["allocation"]["devices"]["config"] == [
        {"source": "FromClass", **own},
        {"source": "FromClaim", "opaque": for_x["opaque"]},
    ]


@pytest.mark.parametrize("value", [{"string": "x"}, {"bool": True}, {"version": "1.0.0"}])
def test_match_attribute_of_every_type(world: World, value: Json) -> None:
    world.publish(gpu("gpu-0", rack={"int": 1}), gpu("gpu-1", rack=value), gpu("gpu-2", rack=value))
    world.submit("train", world.exactly(count=2), constraints=[{"matchAttribute": f"{world.driver}/rack"}])
    assert world.taken("train") == ["gpu-1", "gpu-2"]


def test_match_attribute_of_a_foreign_domain(world: World) -> None:
    world.publish(gpu("gpu-0", 50), gpu("gpu-1", 60), gpu("gpu-2", 60))
    world.submit("train", world.exactly(count=2), constraints=[{"matchAttribute": "health/score"}])
    assert world.taken("train") == ["gpu-1", "gpu-2"]


def test_all_in_a_choice(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1", taints=[TAINT]))
    world.submit(
        "train",
        {"name": "gpu", "firstAvailable": [world.choice("all", allocationMode="All"), world.choice("one")]},
    )
    assert world.held("train") == [("gpu/one", "gpu-0")]
