"""Extended resources that a DeviceClass serves: the scheduler makes the claim by itself."""

from typing import Any

from contract.scheduling.test_lifecycle import FINALIZER
from contract.scheduling.test_selectors import no_key
from contract.scheduling.test_taints import rule, tells, what_if
from contract.scheduling.world import NO_DEVICES, Json, World, gpu
from support.realkube.answers import stored

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"


def resource(world: World) -> str:
    return f"{world.driver}/gpu"


def counted(world: World, *selectors: str, **more: Any) -> str:
    """A class that serves the case's extended resource."""
    return world.device_class(*selectors, suffix="-counted", extendedResourceName=resource(world), **more)


def container(name: str, **limits: str) -> Json:
    return {"name": name, "image": "work", "resources": {"limits": limits}}


def counting(world: World, name: str, *containers: Json, **more: Any) -> Json:
    """A pod without claims; by default it asks for one of the extended resource."""
    asked = containers or (container("main", **{resource(world): "1"}),)
    return world.pod(name, containers=list(asked), **more)


def mappings(pod: Json) -> list[tuple[str, str, str]]:
    status = pod["status"]["extendedResourceClaimStatus"]
    return [
        (one["containerName"], one["resourceName"], one["requestName"]) for one in status["requestMappings"]
    ]


def special(world: World, pod: Json) -> Json:
    name = pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
    return stored(world.api.get(f"{world.claims}/{name}"))


def given(claim: Json) -> list[tuple[str, str]]:
    return [(one["request"], one["device"]) for one in claim["status"]["allocation"]["devices"]["results"]]


def test_the_scheduler_makes_the_claim(world: World) -> None:
    name = counted(world, 'device.attributes["health"].score > 90')
    world.publish(gpu("gpu-0", 50), gpu("gpu-1"), gpu("gpu-2"))
    counting(world, "train")
    pod = world.placed("train")
    claim = special(world, pod)
    (owner,) = claim["metadata"]["ownerReferences"]
    assert mappings(pod) == [("main", resource(world), "container-0-request-0")]
    assert claim["metadata"]["generateName"] == "train-extended-resources-"
    assert claim["metadata"]["name"].startswith("train-extended-resources-")
    assert claim["metadata"]["annotations"] == {ANNOTATION: "true"}
    assert claim["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
    assert owner == {
        "apiVersion": "v1", "kind": "Pod", "name": "train", "uid": pod["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    exactly = {"deviceClassName": name, "allocationMode": "ExactCount", "count": 1}
    assert claim["spec"] == {"devices": {"requests": [{"name": "container-0-request-0", "exactly": exactly}]}}
    assert given(claim) == [("container-0-request-0", "gpu-1")]
    assert [entry["name"] for entry in claim["status"]["reservedFor"]] == ["train"]
    assert sorted(claim["status"]["allocation"]) == ["allocationTimestamp", "devices", "nodeSelector"]
    assert "resourceClaims" not in pod["spec"]
    assert "resourceClaimStatuses" not in pod["status"]


def test_a_resource_can_be_named_by_its_class(world: World) -> None:
    world.publish(gpu("gpu-0"))
    implicit = f"deviceclass.resource.kubernetes.io/{world.name}"
    counting(world, "train", container("main", **{implicit: "1"}))
    pod = world.placed("train")
    assert mappings(pod) == [("main", implicit, "container-0-request-0")]
    assert given(special(world, pod)) == [("container-0-request-0", "gpu-0")]


def test_containers_have_requests_of_their_own(world: World) -> None:
    counted(world)
    world.publish(*(gpu(f"gpu-{number}") for number in range(4)))
    name = resource(world)
    first = container(
        "first", **{name: "2", "cpu": "1"}
    )  # the number of a request counts all resources by name
    counting(world, "train", first, container("idle"), container("third", **{name: "1"}))
    pod = world.placed("train")
    assert mappings(pod) == [
        ("first", name, "container-0-request-0"),
        ("third", name, "container-2-request-0"),
    ]
    assert [device for _, device in given(special(world, pod))] == ["gpu-0", "gpu-1", "gpu-2"]


def test_an_init_container_uses_what_the_later_ones_have(world: World) -> None:
    counted(world)
    world.publish(*(gpu(f"gpu-{number}") for number in range(3)))
    name = resource(world)
    init = [container("small", **{name: "1"}), container("big", **{name: "3"})]
    counting(world, "train", container("main", **{name: "2"}), initContainers=init)
    pod = world.placed("train")
    claim = special(world, pod)
    assert mappings(pod) == [
        ("main", name, "container-2-request-0"),
        ("small", name, "container-2-request-0"),
        ("big", name, "container-2-request-0"),
        ("big", name, "container-1-request-0"),
    ]
    assert given(claim) == [
        ("container-1-request-0", "gpu-0"),
        ("container-2-request-0", "gpu-1"),
        ("container-2-request-0", "gpu-2"),
    ]


def test_two_resources_of_one_container(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    implicit = f"deviceclass.resource.kubernetes.io/{world.name}"
    counting(world, "train", container("main", **{resource(world): "1", implicit: "1"}))
    pod = world.placed("train")
    assert mappings(pod) == [
        ("main", resource(world), "container-0-request-0"),
        ("main", implicit, "container-0-request-1"),
    ]
    assert given(special(world, pod)) == [
        ("container-0-request-0", "gpu-0"),
        ("container-0-request-1", "gpu-1"),
    ]


def test_a_pod_waits_where_no_device_is_left(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0"))
    counting(world, "one")
    world.placed("one")
    counting(world, "two")
    world.waits("two", {NO_DEVICES: 1})
    assert [claim["metadata"]["ownerReferences"][0]["name"] for claim in claims(world)] == ["one"]
    world.delete_pod("one")
    world.placed("two")


def claims(world: World) -> list[Json]:
    found: list[Json] = stored(world.api.get(world.claims))["items"]
    return found


def test_a_resource_that_nobody_serves(world: World) -> None:
    world.publish(gpu("gpu-0"))
    counting(world, "train")
    world.waits("train", {f"Insufficient {resource(world)}": 1})


def test_a_class_that_comes_late_serves_the_waiting_pod(world: World) -> None:
    world.publish(gpu("gpu-0"))
    counting(world, "train")
    world.waits("train", {f"Insufficient {resource(world)}": 1})
    counted(world)
    assert given(special(world, world.placed("train"))) == [("container-0-request-0", "gpu-0")]


def test_a_device_plugin_goes_before_the_class(bare: World) -> None:
    bare.node(**{f"{bare.driver}/gpu": "1"})
    counted(bare)
    bare.publish(gpu("gpu-0"))
    counting(bare, "plain")
    assert "extendedResourceClaimStatus" not in bare.placed("plain")["status"]
    assert claims(bare) == []
    counting(bare, "second")
    bare.waits("second", {f"Insufficient {resource(bare)}": 1}, without_victims=1)


def test_the_claim_beside_one_of_the_user(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.claim("own")
    world.pod("train", "own", containers=[container("main", **{resource(world): "1"})])
    pod = world.placed("train")
    own = [result["device"] for result in world.results("own")]
    assert (own, given(special(world, pod))) == (["gpu-0"], [("container-0-request-0", "gpu-1")])


def test_the_claim_goes_when_its_pod_ends(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0"))
    counting(world, "one")
    name = special(world, world.placed("one"))["metadata"]["name"]
    world.end("one")
    world.gone(f"{world.claims}/{name}")
    counting(world, "two")
    world.placed("two")


def test_the_claim_goes_with_its_pod(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0"))
    counting(world, "one")
    name = special(world, world.placed("one"))["metadata"]["name"]
    world.delete_pod("one")
    world.gone(f"{world.claims}/{name}")


def test_a_tainted_device_is_not_given(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0", taints=[{"key": "example.com/x", "effect": "NoSchedule"}]))
    counting(world, "train")
    world.waits("train")


def test_an_error_in_the_class_stops_the_pod(world: World) -> None:
    name = counted(world, 'device.attributes["health"].nosuch == 1')
    world.publish(gpu("gpu-0"))
    counting(world, "train")
    where = f"class {name}: selector #1 on device {world.driver}/{world.name}-a/gpu-0"
    world.broken("train", f"{where}: CEL runtime error: {no_key('nosuch')}")


def test_no_execute_evicts_the_pod(world: World) -> None:
    counted(world)
    published = world.publish(gpu("gpu-0"))
    counting(world, "train")
    world.placed("train")
    published["spec"]["devices"][0]["taints"] = [{"key": "example.com/x", "effect": "NoExecute"}]
    world.replace(world.slices, published)
    world.evicted("train")


def test_a_what_if_about_a_pod_of_an_extended_resource(world: World) -> None:
    counted(world)
    world.publish(gpu("gpu-0"))
    counting(world, "train")
    world.placed("train")
    rule(world, "None")
    text = what_if("1 published device", "1 allocated device", "1 pod would be evicted in 1 namespace")
    tells(world, "False", "NoEffect", text)


def test_a_claim_left_over_from_an_earlier_attempt_is_replaced(world: World) -> None:
    name = counted(world)
    world.publish(gpu("gpu-0"))
    pod = counting(world, "train", schedulingGates=[{"name": "example.com/wait"}])
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "train",
        "uid": pod["metadata"]["uid"],
        "controller": True,
    }
    exactly = {"deviceClassName": name, "allocationMode": "ExactCount", "count": 1}
    left = world.create(
        world.claims,
        {
            "metadata": {
                "name": "left",
                "ownerReferences": [owner],
                "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
                "finalizers": [FINALIZER],
            },
            "spec": {"devices": {"requests": [{"name": "container-0-request-0", "exactly": exactly}]}},
        },
    )
    left["status"] = {
        "allocation": {
            "devices": {
                "results": [
                    {
                        "request": "container-0-request-0",
                        "driver": world.driver,
                        "pool": f"{world.name}-a",
                        "device": "gpu-0",
                    }
                ]
            }
        }
    }
    stored(world.api.put(f"{world.claims}/left/status", left))
    stored(
        world.api.patch(
            f"{world.pods}/train",
            "application/json-patch+json",
            [{"op": "remove", "path": "/spec/schedulingGates"}],
        )
    )
    made = special(world, world.placed("train"))
    assert made["metadata"]["name"] != "left"
    world.gone(f"{world.claims}/left")
