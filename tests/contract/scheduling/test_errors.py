"""Selectors that fail on a device, and the pods that such an error stops."""

from contract.scheduling.test_selectors import HEALTHY, no_key
from contract.scheduling.world import NO_DEVICES, NODES, World, cel, condition, gpu
from support.raw_api import MERGE_PATCH
from support.realkube.answers import stored

SCORE = 'device.attributes["health"].score > 90'


def hole(name: str) -> dict[str, object]:
    return {"name": name, "attributes": {"health/other": {"int": 1}}}


def failing(world: World, claim: str, device: str, *, key: str = "score", selector: int = 0) -> str:
    where = (
        f"claim {world.name}/{claim}: selector #{selector} on device {world.driver}/{world.name}-a/{device}"
    )
    return f"{where}: CEL runtime error: {no_key(key)}"


def test_a_hole_in_the_first_device_stops_everybody(world: World) -> None:
    world.publish(hole("gpu-0"), gpu("gpu-1"))
    world.submit("train", world.exactly("gpu", SCORE))
    world.broken("train", failing(world, "train", "gpu-0"))


def test_a_hole_in_the_last_device_is_harmless_for_one_and_two(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"), hole("gpu-2"))
    world.submit("two", world.exactly("gpu", SCORE, count=2))
    assert world.taken("two") == ["gpu-0", "gpu-1"]


def test_a_hole_in_the_last_device_is_fatal_for_three(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"), hole("gpu-2"))
    world.submit("three", world.exactly("gpu", SCORE, count=3))
    world.broken("three", failing(world, "three", "gpu-2"))


def test_a_hole_in_the_last_device_is_fatal_for_all(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"), hole("gpu-2"))
    world.submit("all", world.exactly("gpu", SCORE, allocationMode="All"))
    world.broken("all", failing(world, "all", "gpu-2"))


def test_a_hole_is_fatal_once_the_devices_before_it_are_in_use(world: World) -> None:
    world.publish(gpu("gpu-0"), hole("gpu-1"))
    world.submit("first", world.exactly("gpu", SCORE))
    assert world.taken("first") == ["gpu-0"]
    world.submit("second", world.exactly("gpu", SCORE))
    world.broken("second", failing(world, "second", "gpu-1"))


def test_the_pod_is_placed_when_the_attribute_is_there_again(world: World) -> None:
    published = world.publish(hole("gpu-0"))
    world.submit("train", world.exactly("gpu", SCORE))
    world.broken("train", failing(world, "train", "gpu-0"))
    published["spec"]["devices"] = [gpu("gpu-0")]
    world.replace(world.slices, published)
    assert world.taken("train") == ["gpu-0"]


def test_a_selector_is_named_by_its_number(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train", world.exactly("gpu", SCORE, 'device.attributes["health"].nosuch == 1'))
    world.broken("train", failing(world, "train", "gpu-0", key="nosuch", selector=1))


def test_a_selector_that_is_false_saves_from_the_next_one(world: World) -> None:
    world.publish(gpu("gpu-0", 10))
    world.submit("train", world.exactly("gpu", SCORE, 'device.attributes["health"].nosuch == 1'))
    world.waits("train")


def test_an_error_in_the_class_names_the_class(world: World) -> None:
    name = world.device_class('device.attributes["nosuch"].x == 1', suffix="-odd")
    world.publish(gpu("gpu-0"))
    world.submit("train", {"name": "gpu", "exactly": {"deviceClassName": name}})
    where = f"class {name}: selector #1 on device {world.driver}/{world.name}-a/gpu-0"
    world.broken("train", f"{where}: CEL runtime error: {no_key('x')}")


def other_driver(world: World) -> str:
    """A network card of a driver whose name and pool stand before the case's own; returns its driver."""
    driver = f"a-{world.driver}"
    spec = {
        "driver": driver,
        "nodeName": f"{world.name}-a",
        "pool": {"name": f"{world.name}-a", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "nic-0"}],
    }
    world.create(world.slices, {"metadata": {"name": f"a-{world.name}"}, "spec": spec})
    return driver


def test_a_class_without_driver_filter_breaks_on_another_drivers_device(world: World) -> None:
    driver = other_driver(world)
    name = world.device_class(is_filtered=False, suffix="-open")
    world.publish(gpu("gpu-0"))
    request = {"name": "gpu", "exactly": {"deviceClassName": name, "selectors": [cel(SCORE)]}}
    world.submit("train", request)
    where = f"claim {world.name}/train: selector #0 on device {driver}/{world.name}-a/nic-0"
    world.broken("train", f"{where}: CEL runtime error: {no_key('score')}")


def test_a_class_with_driver_filter_is_not_broken_by_another_drivers_device(world: World) -> None:
    other_driver(world)
    world.publish(gpu("gpu-0"))
    world.submit("train", world.exactly("gpu", SCORE))
    assert world.taken("train") == ["gpu-0"]


def test_a_driver_filter_in_the_request_saves_an_open_class(world: World) -> None:
    other_driver(world)
    name = world.device_class(is_filtered=False, suffix="-open")
    world.publish(gpu("gpu-0"))
    guarded = f'device.driver == "{world.driver}" && {SCORE}'
    request = {"name": "gpu", "exactly": {"deviceClassName": name, "selectors": [cel(guarded)]}}
    world.submit("train", request)
    assert world.taken("train") == ["gpu-0"]


def test_an_open_class_gives_another_drivers_device(world: World) -> None:
    driver = other_driver(world)
    name = world.device_class(is_filtered=False, suffix="-open")
    world.publish(gpu("gpu-0"))
    world.submit("train", {"name": "gpu", "exactly": {"deviceClassName": name}})
    world.placed("train")
    (result,) = world.results("train")
    assert (result["driver"], result["device"]) == (driver, "nic-0")


def test_class_and_request_selectors_both_have_to_match(world: World) -> None:
    name = world.device_class(SCORE, suffix="-healthy")
    world.publish(
        gpu("gpu-0", 50, rack={"int": 1}), gpu("gpu-1", rack={"int": 2}), gpu("gpu-2", rack={"int": 1})
    )
    mine = cel(f'device.attributes["{world.driver}"].rack == 1')
    world.submit("train", {"name": "gpu", "exactly": {"deviceClassName": name, "selectors": [mine]}})
    assert world.taken("train") == ["gpu-2"]


def test_a_class_that_does_not_exist_holds_the_pod_back(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train", {"name": "gpu", "exactly": {"deviceClassName": f"{world.name}-late"}})
    message = world.blocked(f"request gpu: device class {world.name}-late does not exist")
    world.refused("train", "Unschedulable", message)
    world.device_class(suffix="-late")
    assert world.taken("train") == ["gpu-0"]


def test_one_broken_pod_does_not_hold_up_another(world: World) -> None:
    world.publish(
        hole("gpu-0"),
        gpu("gpu-1", **{"health/xidErrors": {"int": 0}, "health/nvlinkStatus": {"string": "active"}}),
    )
    world.submit("broken", world.exactly("gpu", HEALTHY))
    world.broken("broken", failing(world, "broken", "gpu-0"))
    world.submit("guarded", world.exactly("gpu", f'has(device.attributes["health"].score) && {SCORE}'))
    assert world.taken("guarded") == ["gpu-1"]


def test_a_changed_class_serves_the_waiting_pod(world: World) -> None:
    name = world.device_class('device.attributes["health"].score > 100', suffix="-strict")
    world.publish(gpu("gpu-0"))
    world.submit("train", {"name": "gpu", "exactly": {"deviceClassName": name}})
    world.waits("train")
    spec = {"spec": {"selectors": [cel(f'device.driver == "{world.driver}"')]}}
    stored(world.api.patch(f"{world.classes}/{name}", MERGE_PATCH, spec))
    assert world.taken("train") == ["gpu-0"]


def test_a_class_that_a_choice_misses(world: World) -> None:
    world.publish(gpu("gpu-0"))
    other = {"name": "two", "deviceClassName": f"{world.name}-late"}
    world.submit("train", {"name": "gpu", "firstAvailable": [world.choice("one"), other]})
    message = world.blocked(f"request gpu/two: device class {world.name}-late does not exist")
    world.refused("train", "Unschedulable", message)


def test_a_broken_class_of_a_choice_that_is_not_needed(world: World) -> None:
    bad = world.device_class('device.attributes["health"].nosuch == 1', suffix="-bad")
    world.publish(gpu("gpu-0"))
    world.submit(
        "train",
        {"name": "gpu", "firstAvailable": [world.choice("one"), {"name": "two", "deviceClassName": bad}]},
    )
    assert world.held("train") == [("gpu/one", "gpu-0")]


def test_the_whole_condition_of_a_waiting_pod(world: World) -> None:
    world.publish(gpu("gpu-0", 10))
    world.submit("train", world.exactly("gpu", "false"))
    world.waits("train")
    found = condition(stored(world.api.get(f"{world.pods}/train")), "PodScheduled")
    assert found.pop("lastTransitionTime")
    found.pop("message")
    assert found == {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "lastProbeTime": None,
        "observedGeneration": 1,
    }


def test_a_cordoned_and_a_tainted_node(world: World) -> None:
    tainted = world.node("b")
    cordoned = world.node("c")
    foreign = {"key": "example.com/gpu", "value": "bad", "effect": "NoSchedule"}
    stored(world.api.patch(f"{NODES}/{tainted}", MERGE_PATCH, {"spec": {"taints": [foreign]}}))
    stored(world.api.patch(f"{NODES}/{cordoned}", MERGE_PATCH, {"spec": {"unschedulable": True}}))
    counted = {NO_DEVICES: 1, "node(s) had untolerated taint(s)": 1, "node(s) were unschedulable": 1}
    world.submit("train")
    try:
        world.waits("train", counted)
    finally:  # the nodes stay for the other cases
        for node in (tainted, cordoned):
            plain = {"spec": {"taints": None, "unschedulable": None}}
            stored(world.api.patch(f"{NODES}/{node}", MERGE_PATCH, plain))
