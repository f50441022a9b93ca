"""Tainted devices: tolerations, eviction, and DeviceTaintRules with their conditions."""

from dataclasses import dataclass

import pytest

from contract.scheduling.world import Json, World, condition, eventually, gpu
from support.raw_api import MERGE_PATCH
from support.realkube.answers import stored

KEY = "example.com/unhealthy"


def taint(effect: str = "NoSchedule", value: str = "Xid79") -> Json:
    return {"key": KEY, "value": value, "effect": effect}


@dataclass(frozen=True, slots=True)
class Tolerates:
    """A taint's effect, the request's tolerations, and which of the tainted gpu-0 and the clean gpu-1 is given."""

    name: str
    effect: str
    tolerations: tuple[Json, ...]
    device: str


TABLE = (
    Tolerates("NoSchedule repels", "NoSchedule", (), "gpu-1"),
    Tolerates("NoExecute repels", "NoExecute", (), "gpu-1"),
    Tolerates("None is ignored", "None", (), "gpu-0"),
    Tolerates("key and value", "NoSchedule", ({"key": KEY, "value": "Xid79"},), "gpu-0"),
    Tolerates("key and another value", "NoSchedule", ({"key": KEY, "value": "Xid48"},), "gpu-1"),
    Tolerates("key exists", "NoSchedule", ({"key": KEY, "operator": "Exists"},), "gpu-0"),
    Tolerates("another key exists", "NoSchedule", ({"key": "example.com/x", "operator": "Exists"},), "gpu-1"),
    Tolerates("everything exists", "NoSchedule", ({"operator": "Exists"},), "gpu-0"),
    Tolerates("everything exists, NoExecute too", "NoExecute", ({"operator": "Exists"},), "gpu-0"),
    Tolerates("same effect", "NoExecute", ({"key": KEY, "operator": "Exists", "effect": "NoExecute"},), "gpu-0"),
    Tolerates("another effect", "NoExecute", ({"key": KEY, "operator": "Exists", "effect": "NoSchedule"},), "gpu-1"),
)  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_a_toleration_of_a_taint(world: World, case: Tolerates) -> None:
    world.publish(gpu("gpu-0", taints=[taint(case.effect)]), gpu("gpu-1"))
    more = {"tolerations": list(case.tolerations)} if case.tolerations else {}
    world.submit("train", world.exactly(**more))
    assert world.taken("train") == [case.device]
    (result,) = world.results("train")
    given = [{"operator": "Equal", **one} for one in case.tolerations]
    assert result.get("tolerations", []) == given


def test_the_tolerations_of_a_choice_are_its_own(world: World) -> None:
    world.publish(gpu("gpu-0", taints=[taint()]))
    tolerant = world.choice("any", tolerations=[{"key": KEY, "operator": "Exists"}])
    world.submit("train", {"name": "gpu", "firstAvailable": [world.choice("clean"), tolerant]})
    assert world.held("train") == [("gpu/any", "gpu-0")]
    assert world.results("train")[0]["tolerations"] == [{"key": KEY, "operator": "Exists"}]


def test_every_taint_has_to_be_tolerated(world: World) -> None:
    other = {"key": "example.com/lost", "effect": "NoSchedule"}
    world.publish(gpu("gpu-0", taints=[taint(), other]))
    world.submit("train", world.exactly(tolerations=[{"key": KEY, "operator": "Exists"}]))
    world.waits("train")


def test_a_pod_is_placed_when_the_taint_goes(world: World) -> None:
    published = world.publish(gpu("gpu-0", taints=[taint()]))
    world.submit("train")
    world.waits("train")
    del published["spec"]["devices"][0]["taints"]
    world.replace(world.slices, published)
    assert world.taken("train") == ["gpu-0"]


def tainted(world: World, published: Json, effect: str) -> None:
    """Taints gpu-0 of the published slice."""
    fresh = stored(world.api.get(f"{world.slices}/{published['metadata']['name']}"))
    fresh["spec"]["devices"][0]["taints"] = [taint(effect)]
    world.replace(world.slices, fresh)


def test_a_further_pod_of_a_shared_claim_comes_in_spite_of_no_schedule(world: World) -> None:
    published = world.publish(gpu("gpu-0"))
    world.claim("shared")
    world.pod("one", "shared")
    world.placed("one")
    tainted(world, published, "NoSchedule")
    seen(world)
    world.pod("two", "shared")
    world.placed("two")


def seen(world: World) -> None:
    """Waits until the scheduler knows of the taint: a new claim waits because of it, or gets nothing."""
    world.submit("probe")
    world.waits("probe")


def is_disrupted(pod: Json) -> None:
    found = condition(pod, "DisruptionTarget")
    assert (found["status"], found["reason"], found["message"]) == (
        "True",
        "DeletionByDeviceTaintManager",
        "Device Taint manager: deleting due to NoExecute taint",
    )


EVICTION = (
    "Normal",
    "DeviceTaintManagerEviction",
    "Marking for deletion",
    "device-taint-eviction-controller",
)


def test_no_execute_evicts_and_the_claim_gets_another_device(world: World) -> None:
    published = world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("train")
    assert world.taken("train") == ["gpu-0"]
    tainted(world, published, "NoExecute")
    is_disrupted(world.evicted("train"))
    world.told("train", EVICTION)
    world.delete_pod("train")
    world.freed("train")
    world.pod("again", "train")
    world.placed("again")
    assert [result["device"] for result in world.results("train")] == ["gpu-1"]


def test_no_execute_spares_who_tolerates_it(world: World) -> None:
    published = world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit(
        "brave", world.exactly(tolerations=[{"key": KEY, "operator": "Exists", "effect": "NoExecute"}])
    )
    assert world.taken("brave") == ["gpu-0"]
    world.claim("plain", world.exactly("gpu", tolerations=[{"key": KEY, "value": "else"}]))
    tainted(world, published, "NoExecute")
    world.pod("further", "brave")
    world.placed("further")
    for name in ("brave", "further"):
        assert "deletionTimestamp" not in world.api.get(f"{world.pods}/{name}").body["metadata"]


def test_no_execute_evicts_further_pods_of_the_claim_once_they_are_placed(world: World) -> None:
    published = world.publish(gpu("gpu-0"))
    world.claim("shared")
    world.pod("one", "shared")
    world.placed("one")
    tainted(world, published, "NoExecute")
    world.evicted("one")
    seen(world)
    world.pod("two", "shared")
    world.placed("two")
    is_disrupted(world.evicted("two"))


def test_a_rule_taints_its_device(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    rule(world, "NoSchedule")
    world.again_until("train", ["gpu-1"])


def test_a_pod_is_placed_when_the_rule_goes(world: World) -> None:
    world.publish(gpu("gpu-0"))
    rule(world, "NoSchedule")
    settle(world)
    world.submit("train")
    world.waits("train")
    world.api.delete(f"{world.rules}/{world.name}")
    assert world.taken("train") == ["gpu-0"]


def settle(world: World) -> None:
    """Waits until a rule about gpu-0 is known: a claim made before may still have got the device."""
    for number in range(20):
        name = f"early-{number}"
        world.submit(name)
        eventually(lambda name=name: world.scheduled(name)[0], lambda: "an attempt")
        if world.scheduled(name)[0] == "False":
            world.delete_pod(name)
            return
        world.delete_pod(name)
        world.freed(name)
    raise AssertionError("the rule is not seen")


def rule(world: World, effect: str, **selector: str) -> Json:
    """A rule about gpu-0 of the case's node."""
    chosen = selector or {"driver": world.driver, "pool": f"{world.name}-a", "device": "gpu-0"}
    spec = {"deviceSelector": chosen, "taint": taint(effect)}
    return world.create(world.rules, {"metadata": {"name": world.name}, "spec": spec})


def progress(world: World) -> tuple[str, str, str]:
    found = condition(stored(world.api.get(f"{world.rules}/{world.name}")), "EvictionInProgress")
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def tells(world: World, *wanted: str) -> None:
    eventually(lambda: progress(world) == wanted, lambda: f"{wanted}, but {progress(world)}")


def what_if(published: str, allocated: str, pods: str) -> str:
    return (
        f"{published} selected. {allocated} selected. {pods} if the effect was NoExecute. "
        "This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
    )


def test_a_rule_without_effect_tells_what_it_would_do(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("train")
    assert world.taken("train") == ["gpu-0"]
    rule(world, "None")
    text = what_if("1 published device", "1 allocated device", "1 pod would be evicted in 1 namespace")
    tells(world, "False", "NoEffect", text)
    assert "deletionTimestamp" not in world.api.get(f"{world.pods}/train").body["metadata"]


def test_a_rule_without_effect_counts_all_devices_of_its_driver(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"), gpu("gpu-2"))
    world.submit("train", world.exactly(count=2))
    world.submit("other")
    world.taken("train")
    world.taken("other")
    rule(world, "None", driver=world.driver)
    text = what_if("3 published devices", "3 allocated devices", "2 pods would be evicted in 1 namespace")
    tells(world, "False", "NoEffect", text)


def test_a_rule_without_effect_about_a_free_device(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train", world.exactly(count=2))
    rule(world, "None")
    text = what_if(
        "1 published device", "0 allocated devices", "0 pods would be evicted in 0 different namespaces"
    )
    tells(world, "False", "NoEffect", text)


def test_a_rule_that_evicts(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("train")
    assert world.taken("train") == ["gpu-0"]
    rule(world, "NoExecute")
    is_disrupted(world.evicted("train"))
    world.told("train", EVICTION)
    world.delete_pod("train")
    world.freed("train")
    tells(world, "False", "Completed", "1 pod evicted since starting the controller.")


def test_a_rule_that_only_stops_scheduling(world: World) -> None:
    world.publish(gpu("gpu-0"))
    rule(world, "NoSchedule")
    tells(world, "False", "OtherEffect", "Eviction only happens for the NoExecute effect.")


def test_a_rule_that_finds_nobody(world: World) -> None:
    world.publish(gpu("gpu-0"))
    rule(world, "NoExecute")
    tells(world, "False", "NotStarted", "")


def test_a_what_if_that_becomes_an_eviction(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train")
    world.taken("train")
    rule(world, "None")
    text = what_if("1 published device", "1 allocated device", "1 pod would be evicted in 1 namespace")
    tells(world, "False", "NoEffect", text)
    patch = {"spec": {"taint": taint("NoExecute")}}
    stored(world.api.patch(f"{world.rules}/{world.name}", MERGE_PATCH, patch))
    is_disrupted(world.evicted("train"))


def test_the_whole_condition_of_an_evicted_pod(world: World) -> None:
    published = world.publish(gpu("gpu-0"))
    world.submit("train")
    world.placed("train")
    tainted(world, published, "NoExecute")
    found = condition(world.evicted("train"), "DisruptionTarget")
    assert found.pop("lastTransitionTime")
    found.pop("message")
    assert found == {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByDeviceTaintManager",
        "lastProbeTime": None,
    }


def test_a_toleration_that_ends(world: World) -> None:
    published = world.publish(gpu("gpu-0"))
    world.submit(
        "train",
        world.exactly(
            tolerations=[{"key": KEY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]
        ),
    )
    world.placed("train")
    tainted(world, published, "NoExecute")
    is_disrupted(world.evicted("train"))


def test_a_what_if_about_a_pod_that_tolerates(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit(
        "train", world.exactly(tolerations=[{"key": KEY, "operator": "Exists", "effect": "NoExecute"}])
    )
    world.placed("train")
    rule(world, "None")
    tells(
        world,
        "False",
        "NoEffect",
        what_if(
            "1 published device", "1 allocated device", "0 pods would be evicted in 0 different namespaces"
        ),
    )


def test_a_what_if_about_two_pods_of_one_claim(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.claim("shared")
    for name in ("one", "two"):
        world.pod(name, "shared")
        world.placed(name)
    rule(world, "None")
    tells(
        world,
        "False",
        "NoEffect",
        what_if("1 published device", "1 allocated device", "2 pods would be evicted in 1 namespace"),
    )


def test_a_what_if_about_a_device_that_left_its_slice(world: World) -> None:
    published = world.publish(gpu("gpu-0"))
    world.submit("train")
    world.placed("train")
    world.api.delete(f"{world.slices}/{published['metadata']['name']}")
    world.gone(f"{world.slices}/{published['metadata']['name']}")
    rule(world, "None")
    tells(
        world,
        "False",
        "NoEffect",
        what_if("0 published devices", "1 allocated device", "1 pod would be evicted in 1 namespace"),
    )
