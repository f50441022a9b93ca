"""The simulated scheduler on the embedded API server: its allocations, its refusals, and their texts."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gpuvitals_sim.apiserver import InProcessClient
from gpuvitals_sim.cluster import control_plane
from gpuvitals_sim.scheduler import Scheduler
from support.dra_objects import (
    CLAIMS,
    CLASSES,
    DRIVER,
    RULES,
    SLICES,
    Json,
    choice,
    claim,
    condition,
    device_class,
    eventually,
    exactly,
    gpu,
    held_devices,
    pod,
    ready_node,
    resource_slice,
)  # fmt: skip

Publish = Callable[..., Json]
HEALTHY = 'device.attributes["health"].score > 90'
TAINT = {"key": f"{DRIVER}/unhealthy", "value": "Xid79", "effect": "NoSchedule"}


@pytest.fixture
def cluster() -> Iterator[tuple[InProcessClient, Scheduler]]:
    """A cluster with one node, a device class and a running scheduler that knows both."""
    with control_plane(controllers=False) as control:
        client = control.server.client("test")
        for item in (ready_node(client, "node-a"), client.create(CLASSES, device_class())):
            eventually(partial(control.scheduler.knows, item), "the scheduler has caught up")
        yield client, control.scheduler


@pytest.fixture
def client(cluster: tuple[InProcessClient, Scheduler]) -> InProcessClient:
    return cluster[0]


@pytest.fixture
def publish(cluster: tuple[InProcessClient, Scheduler]) -> Publish:
    """Creates a slice or a rule, and returns it once the scheduler knows it: its watches are not in step."""

    def create(item: Json, kind: str = SLICES) -> Json:
        client, scheduler = cluster
        stored = client.create(kind, item)
        eventually(partial(scheduler.knows, stored), "the scheduler knows the object")
        return stored

    return create


def refused(client: InProcessClient, name: str, lagging: str = "") -> Json:
    """The pod's PodScheduled condition once it is False for good: the other watches may lag behind the pod's."""

    def settled() -> Json | None:
        found: Json = condition(client.find("pods", name, "default"), "PodScheduled")
        missing = f'resourceclaim "{name}" not found'
        waits = found.get("status") != "False" or any(
            text in found["message"] for text in (missing, lagging) if text
        )
        return None if waits else found

    return eventually(settled, f"{name} refused")


def node_of(client: InProcessClient, name: str) -> str:
    return eventually(lambda: client.get("pods", name, "default")["spec"].get("nodeName"), f"{name} bound")


def submit(client: InProcessClient, name: str, *requests: Json, **more: object) -> None:
    """A pod and its claim, both of this name."""
    client.create(CLAIMS, claim(name, *requests, **more))  # type: ignore[arg-type]  # keywords of claim()
    client.create("pods", pod(name, name))


def test_devices_are_taken_in_the_published_order(client: InProcessClient, publish: Publish) -> None:
    publish(resource_slice("node-a", gpu("gpu-3"), gpu("gpu-1"), gpu("gpu-2")))
    submit(client, "first")
    node_of(client, "first")
    submit(client, "second")
    node_of(client, "second")
    assert held_devices(client, "first") + held_devices(client, "second") == ["gpu-3", "gpu-1"]


def test_an_allocated_claim_has_finalizer_reservation_and_node_selector(
    client: InProcessClient, publish: Publish
) -> None:
    publish(resource_slice("node-a", gpu("gpu-0")))
    submit(client, "train", exactly("gpu", HEALTHY))
    assert node_of(client, "train") == "node-a"
    stored = client.get(CLAIMS, "train", "default")
    assert stored["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
    assert [entry["name"] for entry in stored["status"]["reservedFor"]] == ["train"]
    allocation = stored["status"]["allocation"]
    assert allocation["devices"]["results"] == [
        {"request": "gpu", "driver": DRIVER, "pool": "node-a", "device": "gpu-0"}
    ]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-a"]}]}
    assert allocation["nodeSelector"] == {"nodeSelectorTerms": [term]}


def test_a_full_node_refuses_with_the_real_text_and_accepts_after_a_device_appears(
    client: InProcessClient,
    publish: Publish,
) -> None:
    stored = publish(resource_slice("node-a", gpu("gpu-0", score=50)))
    submit(client, "train", exactly("gpu", HEALTHY))
    found = refused(client, "train")
    assert (found["reason"], found["message"]) == (
        "Unschedulable",
        "0/1 nodes are available: 1 cannot allocate all claims. "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    )
    # The first attempt may come before the claim does, and tells of that.
    event = eventually(lambda: _event(client, found["message"]), "an event")
    assert (event["reason"], event["type"]) == ("FailedScheduling", "Warning")
    stored["spec"]["devices"].append(gpu("gpu-1"))
    client.update(SLICES, stored)
    node_of(client, "train")
    assert held_devices(client, "train") == ["gpu-1"]


def _event(client: InProcessClient, message: str) -> Json | None:
    return next((each for each in client.list("events", "default") if each["message"] == message), None)


def test_a_missing_attribute_ends_the_attempt_as_scheduler_error(
    client: InProcessClient, publish: Publish
) -> None:
    hole: Json = {"name": "gpu-1", "attributes": {"health/other": {"int": 1}}}
    publish(resource_slice("node-a", gpu("gpu-0"), hole, gpu("gpu-2")))
    submit(client, "one", exactly("gpu", HEALTHY))
    node_of(client, "one")
    submit(client, "two", exactly("gpu", HEALTHY))
    found = refused(client, "two")
    assert found["reason"] == "SchedulerError"
    assert found["message"] == (
        'running "DynamicResources" filter plugin: claim default/two: selector #0 on device '
        f"{DRIVER}/node-a/gpu-1: CEL runtime error: no such key: score. consider using CEL optional chaining "
        "(.? followed by orValue()) or guarding the check with has() for optional fields"
    )


def test_an_error_in_the_class_names_the_class(client: InProcessClient, publish: Publish) -> None:
    client.create(CLASSES, device_class('device.attributes["nosuch"].x == 1', name="odd"))
    publish(resource_slice("node-a", gpu("gpu-0")))
    client.create(CLAIMS, claim("odd", {"name": "gpu", "exactly": {"deviceClassName": "odd"}}))
    client.create("pods", pod("odd", "odd"))
    assert (
        "class odd: selector #1 on device gpu.vitals.internal/node-a/gpu-0: CEL runtime error: no such key: x."
        in refused(client, "odd", 'deviceclass.resource.k8s.io "odd" not found')["message"]
    )


def test_prioritized_list_takes_the_first_that_fits(client: InProcessClient, publish: Publish) -> None:
    publish(resource_slice("node-a", gpu("gpu-0", 60), gpu("gpu-1", 95), gpu("gpu-2", 60)))
    wanted = {
        "name": "gpu",
        "firstAvailable": [
            choice("healthy", HEALTHY), choice("degraded", 'device.attributes["health"].score > 50'),
        ],
    }  # fmt: skip
    seen = []
    for name in ("a", "b", "c"):
        submit(client, name, wanted)
        node_of(client, name)
        result = client.get(CLAIMS, name, "default")["status"]["allocation"]["devices"]["results"][0]
        seen.append((result["request"], result["device"]))
    assert seen == [("gpu/healthy", "gpu-1"), ("gpu/degraded", "gpu-0"), ("gpu/degraded", "gpu-2")]


@pytest.mark.parametrize(
    ("effect", "tolerations", "taken"),
    [
        pytest.param("NoSchedule", (), ["gpu-1"], id="NoSchedule repels"),
        pytest.param("NoExecute", (), ["gpu-1"], id="NoExecute repels"),
        pytest.param("None", (), ["gpu-0"], id="None is ignored"),
        pytest.param("NoSchedule", ({"operator": "Exists"},), ["gpu-0"], id="tolerated by Exists"),
        pytest.param("NoSchedule", ({"key": TAINT["key"], "value": "Xid48"},), ["gpu-1"], id="other value"),
        pytest.param("NoExecute", ({"key": TAINT["key"], "operator": "Exists", "effect": "NoSchedule"},), ["gpu-1"], id="other effect"),
    ],
)  # fmt: skip
def test_taints_and_tolerations(
    client: InProcessClient, effect: str, tolerations: tuple[Json, ...], taken: list[str]
) -> None:
    client.create(
        SLICES, resource_slice("node-a", gpu("gpu-0", taints=({**TAINT, "effect": effect},)), gpu("gpu-1"))
    )
    more: Json = {"tolerations": list(tolerations)} if tolerations else {}
    submit(client, "train", exactly("gpu", **more))
    node_of(client, "train")
    assert held_devices(client, "train") == taken


def test_all_devices_fails_with_one_tainted_device(client: InProcessClient, publish: Publish) -> None:
    publish(resource_slice("node-a", gpu("gpu-0", taints=(TAINT,)), gpu("gpu-1")))
    submit(client, "all", exactly("gpu", allocationMode="All"))
    assert "1 cannot allocate all claims" in refused(client, "all")["message"]


def test_admin_access_takes_a_device_in_use_but_is_not_exempt_from_taints(
    client: InProcessClient, publish: Publish
) -> None:
    label = {"resource.kubernetes.io/admin-access": "true"}
    client.patch("namespaces", ("", "default"), {"metadata": {"labels": label}})
    publish(resource_slice("node-a", gpu("gpu-0", taints=(TAINT,)), gpu("gpu-1")))
    submit(client, "owner")
    node_of(client, "owner")
    submit(client, "watcher", exactly("gpu", adminAccess=True))
    node_of(client, "watcher")
    assert held_devices(client, "owner") == held_devices(client, "watcher") == ["gpu-1"]
    submit(client, "both", exactly("gpu", adminAccess=True, count=2))
    assert "1 cannot allocate all claims" in refused(client, "both")["message"]


def test_a_taint_rule_taints_its_device(client: InProcessClient, publish: Publish) -> None:
    publish(resource_slice("node-a", gpu("gpu-0"), gpu("gpu-1")))
    rule = {
        "metadata": {"name": "out"},
        "spec": {"deviceSelector": {"driver": DRIVER, "pool": "node-a", "device": "gpu-0"}, "taint": TAINT},
    }
    publish(rule, RULES)
    submit(client, "train")
    node_of(client, "train")
    assert held_devices(client, "train") == ["gpu-1"]


def test_matching_and_distinct_attributes_are_found_by_backtracking(client: InProcessClient) -> None:
    def on(rack: str) -> Json:
        return {"rack": {"string": rack}}

    client.create(
        SLICES,
        resource_slice("node-a", gpu("gpu-0", **on("x")), gpu("gpu-1", **on("y")), gpu("gpu-2", **on("y"))),
    )
    submit(client, "same", exactly("gpu", count=2), constraints=({"matchAttribute": f"{DRIVER}/rack"},))
    node_of(client, "same")
    assert held_devices(client, "same") == ["gpu-1", "gpu-2"]
    submit(client, "apart", exactly("gpu", count=2), constraints=({"distinctAttribute": f"{DRIVER}/rack"},))
    refused(client, "apart")


def test_an_incomplete_pool_gives_nothing_and_an_obsolete_one_neither(
    client: InProcessClient, publish: Publish
) -> None:
    publish(resource_slice("node-a", gpu("gpu-0"), name="0-old", generation=1))
    publish(resource_slice("node-a", gpu("gpu-1"), name="1-new", generation=2, count=2))
    submit(client, "train")
    refused(client, "train")
    publish(resource_slice("node-a", gpu("gpu-2"), name="2-new", generation=2, count=2))
    node_of(client, "train")
    assert held_devices(client, "train") == ["gpu-1"]


def test_a_shared_claim_is_allocated_once_and_runs_on_after_a_taint(
    client: InProcessClient, publish: Publish
) -> None:
    stored = publish(resource_slice("node-a", gpu("gpu-0")))
    client.create(CLAIMS, claim("shared"))
    client.create("pods", pod("one", "shared"))
    node_of(client, "one")
    stored["spec"]["devices"][0]["taints"] = [TAINT]
    client.update(SLICES, stored)
    client.create("pods", pod("two", "shared"))
    node_of(client, "two")
    reserved = client.get(CLAIMS, "shared", "default")["status"]["reservedFor"]
    assert sorted(entry["name"] for entry in reserved) == ["one", "two"]


def test_too_many_devices_and_an_unknown_class_are_errors(client: InProcessClient, publish: Publish) -> None:
    publish(resource_slice("node-a", *(gpu(f"gpu-{number}") for number in range(40))))
    submit(client, "many", exactly("gpu", count=33))
    assert (
        "claim default/many, request gpu: adding 33 devices exceeds the claim limit of 32, with 0 already accounted for"
        in (refused(client, "many")["message"])
    )
    client.create(CLAIMS, claim("odd", {"name": "gpu", "exactly": {"deviceClassName": "nosuch"}}))
    client.create("pods", pod("odd", "odd"))
    assert "request gpu: device class nosuch does not exist" in refused(client, "odd")["message"]


def test_config_of_class_and_claim_goes_into_the_allocation(
    client: InProcessClient, publish: Publish
) -> None:
    own: Json = {"opaque": {"driver": DRIVER, "parameters": {"from": "class"}}}
    client.create(
        CLASSES, {**device_class(name="tuned"), "spec": {**device_class()["spec"], "config": [own]}}
    )
    publish(resource_slice("node-a", gpu("gpu-0"), gpu("gpu-1")))
    asked: Json = {"requests": ["a"], "opaque": {"driver": DRIVER, "parameters": {"from": "claim"}}}
    a = {"name": "a", "exactly": {"deviceClassName": "tuned"}}
    submit(client, "train", a, exactly("b"), config=(asked,))
    node_of(client, "train")
    config = client.get(CLAIMS, "train", "default")["status"]["allocation"]["devices"]["config"]
    assert config == [{"source": "FromClass", "requests": ["a"], **own}, {"source": "FromClaim", **asked}]


def test_a_cordoned_and_a_tainted_node_are_told_apart(cluster: tuple[InProcessClient, Scheduler]) -> None:
    client, scheduler = cluster
    taint = {"key": "gpu.health/unhealthy", "value": "true", "effect": "NoSchedule"}
    for node in (
        ready_node(client, "node-b", unschedulable=True),
        ready_node(client, "node-c", taints=[taint]),
    ):
        eventually(partial(scheduler.knows, node), "the scheduler knows the node")
    client.create(
        "pods", {**pod("plain"), "spec": {**pod("plain")["spec"], "nodeSelector": {"pool": "none"}}}
    )
    assert refused(client, "plain")["message"].startswith(
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    )


def test_hundreds_of_devices_are_searched_quickly(client: InProcessClient, publish: Publish) -> None:
    for number in range(12):
        node = f"big-{number:02}"
        ready_node(client, node)
        publish(resource_slice(node, *(gpu(f"gpu-{index}", 60) for index in range(64))))
    publish(resource_slice("node-a", gpu("gpu-0")))
    started = time.monotonic()
    submit(client, "train", exactly("gpu", HEALTHY))
    assert node_of(client, "train") == "node-a"
    assert time.monotonic() - started < 3.0
