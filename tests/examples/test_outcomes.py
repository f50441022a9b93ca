"""Every case is applied to the simulated cluster, and what its README promises happens.

Placement is shown here; `test_running.py` shows the promises that need a kubelet and an agent.
"""

from collections.abc import Iterator

import pytest

from gpuvitals_sim.apiserver import ApiError
from support.dra_objects import (
    CLAIMS,
    RULES,
    Json,
    claim,
    condition,
    eventually,
    exactly,
    held_devices,
    pod,
)
from support.worlds.example_cluster import (
    ExampleWorld,
    entry,
    example_world,
    mig_instance,
    objects,
    promised,
    without_links,
)

UNSCHEDULABLE = "Unschedulable"


@pytest.fixture
def world() -> Iterator[ExampleWorld]:
    with example_world() as made:
        yield made


def test_healthy_single_passes_degraded_gpus_over(world: ExampleWorld) -> None:
    promised("healthy-single", "A degraded GPU is passed over, although it is in service.")
    world.publish(entry(0, "degraded"), entry(1, "unknown"), entry(2, "failed"), entry(3))
    world.apply("healthy-single")

    assert world.placed("healthy-single") == ["3"]


@pytest.mark.parametrize("state", ["degraded", "failed", "unknown", "probation"])
def test_healthy_single_waits_where_no_gpu_is_healthy(world: ExampleWorld, state: str) -> None:
    promised("healthy-single", "Where no GPU is healthy the pod stays Pending with reason `Unschedulable`.")
    world.publish(entry(0, state), entry(1, state))
    world.apply("healthy-single")

    assert world.pending("healthy-single") == (
        UNSCHEDULABLE,
        "0/1 nodes are available: 1 cannot allocate all claims. "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    )
    world.publish(entry(0, state), entry(1))
    assert world.placed("healthy-single") == ["1"]


def test_healthy_single_waits_on_models_without_nvlink_until_none_is_accepted(world: ExampleWorld) -> None:
    promised("healthy-single", "On a model without NVLink the pod stays Pending with reason `Unschedulable`.")
    world.publish(without_links(0))
    world.apply("healthy-single")
    assert world.pending("healthy-single")[0] == UNSCHEDULABLE

    def accept_none(item: Json) -> None:
        item["metadata"]["name"] += "-too"
        if item["kind"] == "ResourceClaimTemplate":
            selector = _exactly(item)["selectors"][0]["cel"]
            selector["expression"] = selector["expression"].replace('== "active"', 'in ["active", "none"]')
        else:
            item["spec"]["resourceClaims"][0]["resourceClaimTemplateName"] += "-too"

    world.apply("healthy-single", accept_none)
    assert world.placed("healthy-single-too") == ["0"]


def test_healthy_then_degraded_takes_the_better_one_first(world: ExampleWorld) -> None:
    promised(
        "healthy-then-degraded", "While a healthy GPU is free the claim holds it for request `gpu/healthy`."
    )
    promised(
        "healthy-then-degraded",
        "When only degraded ones are free it holds one of them for request `gpu/degraded`.",
    )
    world.publish(entry(0, "failed"), entry(1, "degraded"), entry(2))
    world.apply("healthy-then-degraded")
    assert (world.placed("healthy-then-degraded"), world.requests("healthy-then-degraded")) == (
        ["2"],
        ["gpu/healthy"],
    )

    world.again("healthy-then-degraded", "second")
    assert (world.placed("second"), world.requests("second")) == (["1"], ["gpu/degraded"])

    promised(
        "healthy-then-degraded",
        "A failed GPU is never given: with nothing else the pod stays Pending with reason `Unschedulable`.",
    )
    world.again("healthy-then-degraded", "third")
    assert world.pending("third")[0] == UNSCHEDULABLE


def test_inference_takes_degraded_gpus_after_healthy_ones_but_none_on_probation(world: ExampleWorld) -> None:
    promised("inference", "A GPU degraded by XID 94 is class medium and is given.")
    promised(
        "inference", "Healthy GPUs stand first in the slice, so a degraded one is given only after them."
    )
    promised(
        "inference",
        "A GPU on probation is class low and is not given: the pod stays Pending with reason `Unschedulable`.",
    )
    world.publish(entry(0, "probation"), entry(1, "degraded"), entry(2))
    world.apply("inference")
    assert world.placed("inference") == ["2"]
    world.again("inference", "second")
    assert world.placed("second") == ["1"]
    world.again("inference", "third")
    assert world.pending("third")[0] == UNSCHEDULABLE


def test_interruptible_takes_what_is_left_over(world: ExampleWorld) -> None:
    promised("interruptible", "A GPU on probation is taken first, then a degraded one.")
    promised("interruptible", "A failed GPU is not class low and is never given.")
    promised("interruptible", "While every GPU is healthy the pod stays Pending with reason `Unschedulable`.")
    world.publish(entry(0), entry(1))
    world.apply("interruptible")
    assert world.pending("interruptible")[0] == UNSCHEDULABLE

    world.publish(entry(0), entry(1, "degraded"), entry(2, "probation"), entry(3, "failed"))
    assert world.placed("interruptible") == ["2"]
    world.again("interruptible", "second")
    assert (world.placed("second"), world.requests("second")) == (["1"], ["gpu/medium"])
    world.again("interruptible", "third")
    assert world.pending("third")[0] == UNSCHEDULABLE


def test_whole_node_gets_all_gpus_in_service(world: ExampleWorld) -> None:
    promised("whole-node", "On a node with a failed GPU the pod gets all others.")
    world.publish(entry(0), entry(1, "failed"), entry(2, "degraded"), entry(3))
    world.apply("whole-node")

    assert sorted(world.placed("whole-node")) == ["0", "2", "3"]


def test_whole_node_without_its_selector_waits_for_the_failed_gpu(world: ExampleWorld) -> None:
    promised(
        "whole-node",
        "Without the selector the same claim stays Pending there: one tainted GPU fails a request for All.",
    )

    def unselect(item: Json) -> None:
        if item["kind"] == "ResourceClaimTemplate":
            del _exactly(item)["selectors"]

    world.publish(entry(0), entry(1, "failed"))
    world.apply("whole-node", unselect)
    assert world.pending("whole-node")[0] == UNSCHEDULABLE
    world.publish(entry(0), entry(1))
    assert sorted(world.placed("whole-node")) == ["0", "1"]


def test_whole_node_waits_while_another_claim_holds_a_gpu(world: ExampleWorld) -> None:
    promised(
        "whole-node",
        "While another claim holds one of the GPUs the pod stays Pending with reason `Unschedulable`.",
    )
    world.publish(entry(0), entry(1))
    _plain(world, "holder")
    world.apply("whole-node")
    assert world.pending("whole-node")[0] == UNSCHEDULABLE
    world.client.delete("pods", "holder", "default")


def test_a_shared_claim_is_allocated_once_for_both_pods(world: ExampleWorld) -> None:
    promised(
        "shared-claim",
        "The claim is allocated once and reserved for both pods, which run on the same GPU.",
    )
    world.publish(entry(0, "failed"), entry(1), entry(2))
    world.apply("shared-claim")

    assert world.placed("shared-one") == world.placed("shared-two") == ["1"]
    stored = world.client.get(CLAIMS, "shared-gpu", "default")
    assert sorted(one["name"] for one in stored["status"]["reservedFor"]) == ["shared-one", "shared-two"]


def test_an_extended_resource_gets_a_healthy_gpu_and_a_claim(world: ExampleWorld) -> None:
    promised(
        "extended-resource", "The class selects healthy GPUs only, for claims as for extended resources."
    )
    promised(
        "extended-resource",
        "The pod's `status.extendedResourceClaimStatus` names the claim that the scheduler made.",
    )
    world.publish(entry(0, "degraded"), entry(1), entry(2))
    world.apply("extended-resource")
    bound = eventually(lambda: _bound(world, "extended-resource"), "the pod placed")
    made = bound["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
    assert [one["metadata"]["name"] for one in world.client.list(CLAIMS)] == [made]
    assert [world.index(name) for name in held_devices(world.client, made)] == ["1"]

    wanted: Json = {"name": "gpu", "exactly": {"deviceClassName": "counted.gpu.vitals.internal"}}
    world.known(world.client.create(CLAIMS, claim("counted", wanted)))
    world.client.create("pods", pod("counted", "counted"))
    assert world.placed("counted") == ["2"]


def test_admin_access_waits_until_a_gpu_fails(world: ExampleWorld) -> None:
    promised("admin-access", "While no GPU has failed the pod stays Pending with reason `Unschedulable`.")
    world.publish(entry(0), entry(1))
    world.apply("admin-access")
    assert world.pending("diagnosis", "gpu-diagnosis")[0] == UNSCHEDULABLE

    world.publish(entry(0), entry(1, "failed"))
    eventually(lambda: _bound(world, "diagnosis", "gpu-diagnosis"), "placed")


def test_admin_access_alone_does_not_reach_a_tainted_gpu(world: ExampleWorld) -> None:
    promised("admin-access", "Without the toleration the pod stays Pending.")

    def forbid(item: Json) -> None:
        if item["kind"] == "ResourceClaimTemplate":
            del _exactly(item)["tolerations"]

    world.publish(entry(0), entry(1, "failed"))
    world.apply("admin-access", forbid)
    assert world.pending("diagnosis", "gpu-diagnosis")[0] == UNSCHEDULABLE


def test_admin_access_is_refused_in_a_namespace_without_the_label(world: ExampleWorld) -> None:
    promised("admin-access", "In a namespace without the label the claim is refused.")
    (template,) = [one for one in objects("admin-access") if one["kind"] == "ResourceClaimTemplate"]
    template["metadata"]["namespace"] = "default"

    with pytest.raises(ApiError, match=r"admin access to devices requires the .*admin-access: true. label"):
        world.client.create("resourceclaimtemplates.resource.k8s.io", template)


def test_a_gpu_fault_disrupts_the_pod_of_a_job_as_its_policy_ignores(world: ExampleWorld) -> None:
    """Finding D1: the Job's own pods."""
    promised(
        "job-gpu-faults",
        "When its GPU gets a NoExecute taint the pod is deleted with condition `DisruptionTarget`, which the policy ignores.",
    )
    promised("job-gpu-faults", "The replacement gets another GPU.")
    world.publish(entry(0), entry(1))
    world.apply("job-gpu-faults")
    first = eventually(lambda: _job_pod(world, but=""), "a pod of the job")
    assert world.placed(first) == ["0"]
    _taint_first_gpu(world)

    seen = eventually(lambda: _disrupted(world, first), f"{first} disrupted")
    assert seen["metadata"]["deletionTimestamp"]
    assert condition(seen, "DisruptionTarget")["reason"] == "DeletionByDeviceTaintManager"
    # No kubelet is here that would end it: with this policy the pod is replaced once it has ended.
    ended = {"metadata": {"uid": seen["metadata"]["uid"]}, "status": {"phase": "Failed"}}
    world.client.patch("pods", ("default", first), ended, subresource="status")
    second = eventually(lambda: _job_pod(world, but=first), "a replacement")
    assert world.placed(second) == ["1"]
    status = world.client.get("jobs.batch", "training", "default")["status"]
    assert (status["active"], status.get("failed")) == (1, None)


def test_a_mig_instance_is_taken_by_profile_and_not_with_a_failed_parent(world: ExampleWorld) -> None:
    promised("mig-instance", "The pod gets an instance of the profile, not the whole GPU beside it.")
    promised("mig-instance", "A fault of the parent is the fault of its instances, so they are not given.")
    world.publish(
        entry(0),
        mig_instance(1, 7, "1g.10gb", "failed"),
        mig_instance(2, 1, "3g.40gb"),
        mig_instance(2, 9, "1g.10gb"),
    )
    world.apply("mig-instance")
    assert world.placed("mig-instance") == ["2/9"]
    world.again("mig-instance", "second")
    assert world.pending("second")[0] == UNSCHEDULABLE


def test_a_profile_read_without_guard_ends_scheduling(world: ExampleWorld) -> None:
    promised(
        "mig-instance",
        "Without the guard a whole GPU in the pool ends scheduling with reason `SchedulerError`.",
    )

    def unguard(item: Json) -> None:
        if item["kind"] == "ResourceClaimTemplate":
            expression = 'device.attributes["gpu.vitals.internal"].profile == "1g.10gb"'
            _exactly(item)["selectors"] = [{"cel": {"expression": expression}}]

    world.publish(entry(0), mig_instance(1, 7, "1g.10gb"))
    world.apply("mig-instance", unguard)
    reason, message = world.pending("mig-instance")
    assert reason == "SchedulerError"
    assert "no such key: profile" in message


def _exactly(template: Json) -> Json:
    found: Json = template["spec"]["spec"]["devices"]["requests"][0]["exactly"]
    return found


def _plain(world: ExampleWorld, name: str) -> None:
    request = exactly("gpu")
    request["exactly"]["deviceClassName"] = "gpu.vitals.internal"
    world.known(world.client.create(CLAIMS, claim(name, request)))
    world.client.create("pods", pod(name, name))
    world.placed(name)


def _bound(world: ExampleWorld, name: str, namespace: str = "default") -> Json | None:
    found = world.client.get("pods", name, namespace)
    return found if found["spec"].get("nodeName") else None


def _job_pod(world: ExampleWorld, *, but: str) -> str | None:
    """The name of the job's pod; that of another one than `but`."""
    names = [each["metadata"]["name"] for each in world.client.list("pods", "default")]
    return next((name for name in names if name.startswith("training-") and name != but), None)


def _taint_first_gpu(world: ExampleWorld) -> None:
    taint = {"key": "gpu.vitals.internal/unhealthy", "value": "Xid79", "effect": "NoExecute"}
    (published,) = world.client.list("resourceslices.resource.k8s.io")
    device = published["spec"]["devices"][0]["name"]
    selector = {"driver": "gpu.vitals.internal", "pool": "node-a", "device": device}
    rule = {"metadata": {"name": "out"}, "spec": {"deviceSelector": selector, "taint": taint}}
    world.known(world.client.create(RULES, rule))


def _disrupted(world: ExampleWorld, name: str) -> Json | None:
    found = world.client.find("pods", name, "default")
    return found if found is not None and condition(found, "DisruptionTarget") else None
