"""Claims and the pods that use them: shared, generated, missing, released and taken away again."""

from typing import Any

from contract.scheduling.world import Json, World, eventually, gpu
from support.realkube.answers import stored

FINALIZER = "resource.kubernetes.io/delete-protection"
ADMIN = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}


def reserved(world: World, claim: str) -> list[str]:
    return sorted(entry["name"] for entry in world.status(claim).get("reservedFor") or ())


def is_reserved(world: World, claim: str, *names: str) -> None:
    eventually(
        lambda: reserved(world, claim) == list(names), lambda: f"{names}, but {reserved(world, claim)}"
    )


def test_two_pods_share_a_claim(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.claim("shared")
    world.pod("one", "shared")
    world.placed("one")
    world.pod("two", "shared")
    world.placed("two")
    is_reserved(world, "shared", "one", "two")
    assert [result["device"] for result in world.results("shared")] == ["gpu-0"]


def test_a_shared_claim_draws_the_second_pod_to_its_node(world: World) -> None:
    world.node("b")
    world.publish(gpu("gpu-0"), suffix="b")
    world.claim("shared")
    world.pod("one", "shared")
    assert world.placed("one")["spec"]["nodeName"] == f"{world.name}-b"
    world.pod("two", "shared", nodeSelector={"kubernetes.io/hostname": f"{world.name}-a"})
    message = world.unfit({"resourceclaim not available on the node": 1})
    world.refused("two", "Unschedulable", message)
    world.pod("three", "shared")
    assert world.placed("three")["spec"]["nodeName"] == f"{world.name}-b"


def test_a_shared_claim_stays_while_one_of_its_pods_is_left(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.claim("shared")
    for name in ("one", "two"):
        world.pod(name, "shared")
        world.placed(name)
    world.delete_pod("one")
    is_reserved(world, "shared", "two")
    assert "allocation" in world.status("shared")
    world.end("two")
    world.freed("shared")


def test_an_ended_pod_frees_the_device_for_a_waiting_one(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("one")
    world.taken("one")
    world.submit("two")
    world.waits("two")
    world.end("one")
    assert world.taken("two") == ["gpu-0"]
    claim = stored(world.api.get(f"{world.claims}/one"))
    assert "finalizers" not in claim["metadata"]
    assert not claim.get("status")


def test_a_deleted_pod_frees_the_device(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("one")
    world.taken("one")
    world.delete_pod("one")
    world.freed("one")
    world.submit("two")
    assert world.taken("two") == ["gpu-0"]


def test_a_pod_that_is_being_deleted_keeps_its_device(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("one")
    world.taken("one")
    stored(world.api.delete(f"{world.pods}/one"))
    world.submit("two")
    world.waits("two")
    assert reserved(world, "one") == ["one"]
    world.delete_pod("one")
    assert world.taken("two") == ["gpu-0"]


def test_a_pod_waits_for_a_claim_that_does_not_exist(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.pod("train", "late")
    world.is_held_back("train")
    world.claim("late")
    world.placed("train")
    assert [result["device"] for result in world.results("late")] == ["gpu-0"]


def test_a_claim_in_use_goes_only_after_its_pod(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.submit("train")
    world.taken("train")
    stored(world.api.delete(f"{world.claims}/train"))
    world.pod("late", "train")
    world.is_held_back("late")
    world.delete_pod("train")
    world.gone(f"{world.claims}/train")
    world.claim("train")
    world.placed("late")


def test_an_allocated_claim_without_a_pod_keeps_its_devices(world: World) -> None:
    world.publish(gpu("gpu-0"))
    claim = world.claim("held")
    result = {"request": "gpu", "driver": world.driver, "pool": f"{world.name}-a", "device": "gpu-0"}
    claim["metadata"]["finalizers"] = [FINALIZER]
    claim = world.replace(world.claims, claim)
    claim["status"] = {"allocation": {"devices": {"results": [result]}}}
    stored(world.api.put(f"{world.claims}/held/status", claim))
    world.submit("train")
    world.waits("train")


def template(world: World, name: str = "one-gpu", **metadata: Any) -> None:
    body = {"metadata": {"name": name}, "spec": {"metadata": metadata, "spec": world.wants()}}
    world.create(world.templates, body)


def generated(world: World, pod: str) -> Json:
    """The claim that was generated for the pod's only reference, once the pod names it."""

    def named() -> str | None:
        statuses = stored(world.api.get(f"{world.pods}/{pod}"))["status"].get("resourceClaimStatuses") or [{}]
        name: str | None = statuses[0].get("resourceClaimName")
        return name

    return stored(world.api.get(f"{world.claims}/{eventually(named, lambda: 'a generated claim')}"))


def test_a_claim_is_generated_from_its_template(world: World) -> None:
    world.publish(gpu("gpu-0"))
    template(world, labels={"team": "a"}, annotations={"note": "b"})
    pod = world.pod("train", templates=["one-gpu"])
    bound = world.placed("train")
    claim = generated(world, "train")
    metadata = claim["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert metadata["generateName"] == "train-t0-"
    assert metadata["name"].startswith("train-t0-")
    assert len(metadata["name"]) == len("train-t0-") + 5
    assert metadata["labels"] == {"team": "a"}
    assert metadata["annotations"] == {"note": "b", "resource.kubernetes.io/pod-claim-name": "t0"}
    assert owner == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "train",
        "uid": pod["metadata"]["uid"],
        "controller": True,
    }
    assert bound["status"]["resourceClaimStatuses"] == [{"name": "t0", "resourceClaimName": metadata["name"]}]
    assert [result["device"] for result in claim["status"]["allocation"]["devices"]["results"]] == ["gpu-0"]
    assert [entry["name"] for entry in claim["status"]["reservedFor"]] == ["train"]


def test_two_references_to_a_template_are_two_claims(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    template(world)
    world.pod("train", templates=["one-gpu", "one-gpu"])
    world.placed("train")
    claims = stored(world.api.get(world.claims))["items"]
    assert sorted(
        claim["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"] for claim in claims
    ) == ["t0", "t1"]


def test_long_names_are_cut_in_a_generated_claim(world: World) -> None:
    world.publish(gpu("gpu-0"))
    template(world)
    name = "train-" + "x" * 70
    world.pod(name, templates=["one-gpu"])
    world.placed(name)
    claim = generated(world, name)
    assert claim["metadata"]["name"].startswith(claim["metadata"]["generateName"])
    assert claim["metadata"]["generateName"] == f"{name[: 76 * 57 // 80]}-t"


def test_a_pod_waits_for_its_template(world: World) -> None:
    world.publish(gpu("gpu-0"))
    world.pod("train", templates=["one-gpu"])
    missing = 'resourceclaimtemplate.resource.k8s.io "one-gpu" not found'
    failure = f'PodResourceClaim t0: resource claim template "one-gpu": {missing}'
    world.told("train", ("Warning", "FailedResourceClaimCreation", failure, "resource_claim"))
    world.is_held_back("train")
    template(world)
    world.placed("train")


def test_the_generated_claim_goes_with_its_pod(world: World) -> None:
    world.publish(gpu("gpu-0"))
    template(world)
    world.pod("train", templates=["one-gpu"])
    world.placed("train")
    claim = generated(world, "train")["metadata"]["name"]
    world.delete_pod("train")
    world.gone(f"{world.claims}/{claim}")
    world.pod("next", templates=["one-gpu"])
    world.placed("next")


def test_the_generated_claim_goes_when_its_pod_ends(world: World) -> None:
    world.publish(gpu("gpu-0"))
    template(world)
    world.pod("train", templates=["one-gpu"])
    world.placed("train")
    claim = generated(world, "train")["metadata"]["name"]
    world.end("train")
    world.gone(f"{world.claims}/{claim}")
    stored(world.api.get(f"{world.pods}/train"))


def test_the_generated_claim_of_a_waiting_pod_goes_with_it(world: World) -> None:
    template(world)
    world.pod("train", templates=["one-gpu"])
    claim = generated(world, "train")["metadata"]["name"]
    world.waits("train")
    stored(world.api.delete(f"{world.pods}/train"))
    world.gone(f"{world.claims}/{claim}")


def admin(world: World) -> None:
    world.api.patch(f"/api/v1/namespaces/{world.name}", "application/merge-patch+json", ADMIN)


def test_admin_access_gets_a_device_in_use(world: World) -> None:
    admin(world)
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("owner")
    assert world.taken("owner") == ["gpu-0"]
    world.submit("look", world.exactly(adminAccess=True))
    assert world.taken("look") == ["gpu-0"]
    assert world.results("look")[0]["adminAccess"] is True
    assert "adminAccess" not in world.results("owner")[0]


def test_admin_access_leaves_the_device_free(world: World) -> None:
    admin(world)
    world.publish(gpu("gpu-0"))
    world.submit("look", world.exactly(adminAccess=True))
    assert world.taken("look") == ["gpu-0"]
    world.submit("owner")
    assert world.taken("owner") == ["gpu-0"]


def test_admin_access_to_all_devices(world: World) -> None:
    admin(world)
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("owner")
    world.taken("owner")
    world.submit("look", world.exactly(adminAccess=True, allocationMode="All"))
    assert world.taken("look") == ["gpu-0", "gpu-1"]


def test_admin_access_is_not_exempt_from_taints(world: World) -> None:
    admin(world)
    taint = {"key": "example.com/unhealthy", "value": "Xid79", "effect": "NoSchedule"}
    world.publish(gpu("gpu-0", taints=[taint]))
    world.submit("look", world.exactly(adminAccess=True))
    world.waits("look")
    world.submit("tolerant", world.exactly(adminAccess=True, tolerations=[{"operator": "Exists"}]))
    assert world.taken("tolerant") == ["gpu-0"]


def test_admin_access_needs_the_label_of_the_namespace(world: World) -> None:
    answer = world.api.post(
        world.claims, {"metadata": {"name": "look"}, "spec": world.wants(world.exactly(adminAccess=True))}
    )
    assert answer.status == 422
    assert (
        "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing "
        "namespace" in answer.body["message"]
    )


def allocated(world: World, name: str, node: str, device: str = "gpu-0") -> None:
    """An allocation for nobody yet."""
    claim = world.claim(name)
    result = {"request": "gpu", "driver": world.driver, "pool": node, "device": device}
    claim["metadata"]["finalizers"] = [FINALIZER]
    claim = world.replace(world.claims, claim)
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    devices, selector = {"results": [result]}, {"nodeSelectorTerms": [term]}
    allocation = {"devices": devices, "nodeSelector": selector, "allocationTimestamp": "2026-01-01T00:00:00Z"}
    claim["status"] = {"allocation": allocation}
    stored(world.api.put(f"{world.claims}/{name}/status", claim))


def test_an_allocation_that_nobody_reserved_gives_way_to_a_pod_of_another_node(world: World) -> None:
    other = world.node("b")
    world.publish(gpu("gpu-0"))
    world.publish(gpu("gpu-0"), suffix="b")
    allocated(world, "held", other)
    world.pod("train", "held", nodeSelector={"kubernetes.io/hostname": f"{world.name}-a"})
    assert world.placed("train")["spec"]["nodeName"] == f"{world.name}-a"
    assert [result["pool"] for result in world.results("held")] == [f"{world.name}-a"]


def test_an_allocation_that_nobody_reserved_is_used(world: World) -> None:
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    allocated(world, "held", f"{world.name}-a", "gpu-1")
    world.pod("train", "held")
    world.placed("train")
    assert [result["device"] for result in world.results("held")] == ["gpu-1"]


def test_a_shared_claim_outlives_its_slice(world: World) -> None:
    published = world.publish(gpu("gpu-0"))
    world.claim("shared")
    world.pod("one", "shared")
    world.placed("one")
    world.api.delete(f"{world.slices}/{published['metadata']['name']}")
    world.pod("two", "shared")
    world.placed("two")


def test_admin_access_takes_two_different_devices(world: World) -> None:
    admin(world)
    world.publish(gpu("gpu-0"), gpu("gpu-1"))
    world.submit("look", world.exactly(adminAccess=True, count=2))
    assert world.taken("look") == ["gpu-0", "gpu-1"]
    world.submit("three", world.exactly(adminAccess=True, count=3))
    world.waits("three")
