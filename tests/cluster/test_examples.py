"""What each example's README promises, on the real scheduler, kubelet and runtime, with the agent of the chart."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.applied import CONTROL, Applied
from cluster.cluster import Cluster
from cluster.devicenodes import make_device_nodes
from cluster.objects import CLAIMS, CLASS, DRIVER, PODS, Json, claim, create, devices, health, pod
from cluster.release import Release
from gpuvitals_sim.hardware.mig import capability_minors
from support.dra_objects import condition
from support.worlds.example_cluster import api_path, objects, promised

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]

UNSCHEDULABLE = "Unschedulable"
NAMESPACE_OF_ADMIN_ACCESS = "/api/v1/namespaces/gpu-diagnosis"


@pytest.fixture
def applied(cluster: Cluster, release: Release) -> Iterator[Applied]:
    """The agent installed, its GPUs healthy."""
    release.install(flags=[f"--kernel-log={release.gpus.kernel_log}"])
    release.wait_until_ready()
    cluster.wait("its GPUs are published", release.has_published, seconds=10)
    cluster.wait(
        "they are healthy",
        lambda: all(health(cluster.api, name)[0] == "Healthy" for name in devices(cluster.api)),
        seconds=20,
    )
    yield Applied(cluster)
    cluster.api.delete(NAMESPACE_OF_ADMIN_ACCESS)


def test_healthy_single(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised(
        "healthy-single",
        "The pod gets the first GPU in PCI order that is healthy, with its device node in the container.",
    )
    applied.apply("healthy-single")
    first = applied.running("healthy-single")
    assert applied.held(first) == [release.device(0)]
    assert applied.seen(first) == sorted([*CONTROL, "/dev/nvidia0"])
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
    assert applied.run_in("healthy-single", "cat", library) == "scripted\n"

    promised(
        "healthy-single",
        "After XID 79 that GPU is out of service: the pod keeps running on it, its claim says `Healthy=False`, "
        "and the next pod gets another GPU.",
    )
    promised("healthy-single", "A degraded GPU is passed over, although it is in service.")
    _fail(cluster, release, 0)
    _degrade(cluster, release, 1)
    cluster.wait("the claim says so", lambda: applied.healthy(first) == ("False", "Xid79"), seconds=5)
    applied.again("healthy-single", "next")
    assert applied.held(applied.running("next")) == [release.device(2)]
    assert applied.running("healthy-single")["metadata"]["uid"] == first["metadata"]["uid"]

    promised("healthy-single", "Where no GPU is healthy the pod stays Pending with reason `Unschedulable`.")
    _degrade(cluster, release, 3)
    applied.again("healthy-single", "last")
    assert applied.pending("last") == UNSCHEDULABLE


@pytest.mark.parametrize("release", [(1, "l40s")], indirect=True)
def test_healthy_single_without_nvlink(applied: Applied) -> None:
    promised("healthy-single", "On a model without NVLink the pod stays Pending with reason `Unschedulable`.")
    applied.apply("healthy-single")
    assert applied.pending("healthy-single") == UNSCHEDULABLE


def test_interruptible_inference_and_healthy_then_degraded(
    cluster: Cluster, release: Release, applied: Applied
) -> None:
    """GPU 0 stays healthy, 1 is on probation, 2 is degraded, 3 has failed."""
    promised("interruptible", "While every GPU is healthy the pod stays Pending with reason `Unschedulable`.")
    applied.apply("interruptible")
    assert applied.pending("interruptible") == UNSCHEDULABLE
    applied.delete("interruptible")
    _fail(cluster, release, 1)
    _fail(cluster, release, 3)
    _degrade(cluster, release, 2)
    release.gpus.reset(1)
    _until(cluster, release, 1, lambda shown: shown[1] == "Probation")

    promised("interruptible", "A GPU on probation is taken first, then a degraded one.")
    promised("interruptible", "A failed GPU is not class low and is never given.")
    assert _three(applied, "interruptible") == [release.device(1), release.device(2), UNSCHEDULABLE]

    promised("inference", "A GPU degraded by XID 94 is class medium and is given.")
    promised(
        "inference", "Healthy GPUs stand first in the slice, so a degraded one is given only after them."
    )
    promised(
        "inference",
        "A GPU on probation is class low and is not given: the pod stays Pending with reason `Unschedulable`.",
    )
    applied.apply("inference", _only_templates)
    assert _three(applied, "inference") == [release.device(0), release.device(2), UNSCHEDULABLE]
    _better_first(release, applied)


def test_whole_node(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised("whole-node", "On a node with a failed GPU the pod gets all others.")
    _fail(cluster, release, 1)
    applied.apply("whole-node")
    whole = applied.running("whole-node")
    assert sorted(applied.held(whole)) == [release.device(gpu) for gpu in (0, 2, 3)]
    assert applied.seen(whole) == sorted([*CONTROL, "/dev/nvidia0", "/dev/nvidia2", "/dev/nvidia3"])
    applied.delete("whole-node")

    promised(
        "whole-node",
        "Without the selector the same claim stays Pending there: one tainted GPU fails a request for All.",
    )
    promised(
        "whole-node",
        "While another claim holds one of the GPUs the pod stays Pending with reason `Unschedulable`.",
    )

    def unselect(item: Json) -> None:
        item["metadata"]["name"] = "unselected"
        if item["kind"] == "ResourceClaimTemplate":
            del _exactly(item)["selectors"]
        else:
            item["spec"]["resourceClaims"][0]["resourceClaimTemplateName"] = "unselected"

    applied.apply("whole-node", unselect)
    assert applied.pending("unselected") == UNSCHEDULABLE
    applied.delete("unselected")
    create(cluster.api, CLAIMS, claim("holder"))
    create(cluster.api, PODS, pod("holder", claims=("holder",)))
    applied.running("holder")
    applied.again("whole-node", "second")
    assert applied.pending("second") == UNSCHEDULABLE


def test_shared_claim(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised(
        "shared-claim",
        "The claim is allocated once and reserved for both pods, which run on the same GPU.",
    )
    applied.apply("shared-claim")
    pods = [applied.running(name) for name in ("shared-one", "shared-two")]
    stored = applied.claim(pods[0])
    assert sorted(each["name"] for each in stored["status"]["reservedFor"]) == ["shared-one", "shared-two"]
    assert applied.held(pods[0]) == [release.device(0)]
    for each in pods:
        assert applied.seen(each) == sorted([*CONTROL, "/dev/nvidia0"])

    promised(
        "shared-claim",
        "When the GPU fails both pods run on, and the one claim says `Healthy=False` with the reason.",
    )
    _fail(cluster, release, 0)
    cluster.wait("the claim says so", lambda: applied.healthy(pods[0]) == ("False", "Xid79"), seconds=5)
    for each in pods:
        assert applied.running(each["metadata"]["name"])["metadata"]["uid"] == each["metadata"]["uid"]


def test_admin_access(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised("admin-access", "While no GPU has failed the pod stays Pending with reason `Unschedulable`.")
    applied.apply("healthy-single")
    holder = applied.running("healthy-single")
    applied.apply("admin-access")
    assert applied.pending("diagnosis", "gpu-diagnosis") == UNSCHEDULABLE

    promised(
        "admin-access", "When one fails the pod gets it, with its device node, although another pod holds it."
    )
    _fail(cluster, release, 0)
    looking = applied.running("diagnosis", "gpu-diagnosis")
    assert applied.held(looking) == applied.held(holder) == [release.device(0)]
    assert applied.seen(looking) == sorted([*CONTROL, "/dev/nvidia0"])
    assert applied.running("healthy-single")["metadata"]["uid"] == holder["metadata"]["uid"]

    promised("admin-access", "Without the toleration the pod stays Pending.")
    promised("admin-access", "In a namespace without the label the claim is refused.")
    template, diagnosis = objects("admin-access")[1:]
    template["metadata"]["name"] = diagnosis["metadata"]["name"] = "untolerated"
    del _exactly(template)["tolerations"]
    diagnosis["spec"]["resourceClaims"][0]["resourceClaimTemplateName"] = "untolerated"
    for item in (template, diagnosis):
        create(cluster.api, api_path(item), item)
    assert applied.pending("untolerated", "gpu-diagnosis") == UNSCHEDULABLE
    template["metadata"]["namespace"] = "default"
    refused = cluster.api.post(api_path(template), template)
    assert refused.status == 422
    assert "admin-access: true" in refused.body["message"]


def test_mig_instance(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised("mig-instance", "The pod gets an instance of the profile, not the whole GPU beside it.")
    promised(
        "mig-instance",
        "The container sees the node of its GPU and the two capability nodes of its instance, and those of no other.",
    )
    promised("mig-instance", "A second pod gets another instance of the same GPU.")
    release.gpus.divide(1, "3g.40gb", "1g.10gb", "1g.10gb")
    make_device_nodes(release.gpus)
    whole = release.device(1)
    cluster.wait("it is divided", lambda: f"{whole}-mig-1g-10gb-1" in devices(cluster.api), seconds=20)
    assert whole not in devices(cluster.api)
    applied.apply("mig-instance")
    one = applied.running("mig-instance")
    applied.again("mig-instance", "other")
    two = applied.running("other")
    assert (applied.held(one), applied.held(two)) == ([f"{whole}-mig-1g-10gb-0"], [f"{whole}-mig-1g-10gb-1"])
    for each, instance in ((one, 7), (two, 8)):
        caps = [f"nvidia-cap{minor}" for minor in capability_minors(1, instance)]
        assert applied.seen(each) == sorted([*CONTROL, "/dev/nvidia1", *caps])

    promised(
        "mig-instance",
        "A fault that the driver blames on one instance is that one's alone: its claim names it, the other claim's reason stays `None`.",
    )
    promised(
        "mig-instance", "An instance that is destroyed under its claim is told there as `MigInstanceGone`."
    )
    promised("mig-instance", "A fault of the parent is the fault of its instances, so they are not given.")
    cluster.wait("the claim is told", lambda: applied.healthy(one) == ("True", "None"), seconds=10)
    release.gpus.contained(1, 8, 94, "Contained: SM (0x1).")
    cluster.wait("the claim says so", lambda: applied.healthy(two) == ("True", "Xid94"), seconds=10)
    assert applied.healthy(one) == ("True", "None")
    release.gpus.destroy_instance(1, 7)
    cluster.wait("so does this", lambda: applied.healthy(one) == ("False", "MigInstanceGone"), seconds=20)
    applied.delete("mig-instance")
    cluster.wait("it is gone", lambda: f"{whole}-mig-1g-10gb-0" not in devices(cluster.api), seconds=20)
    release.gpus.create_instance(1, "1g.10gb")
    cluster.wait("it is back", lambda: f"{whole}-mig-1g-10gb-0" in devices(cluster.api), seconds=20)
    release.gpus.xid(1, 79, "GPU has fallen off the bus.")
    cluster.wait(
        "its instances are out",
        lambda: health(cluster.api, f"{whole}-mig-1g-10gb-0")[0] == "Unhealthy",
        seconds=10,
    )
    applied.again("mig-instance", "last")
    assert applied.pending("last") == UNSCHEDULABLE
    applied.delete("other", "last")


def test_job_gpu_faults(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised(
        "job-gpu-faults",
        "When its GPU gets a NoExecute taint the pod is deleted with condition `DisruptionTarget`, which the policy ignores.",
    )
    promised("job-gpu-faults", "The replacement gets another GPU.")
    applied.apply("job-gpu-faults")
    first = applied.running(_pod_of_job(cluster, but=""))
    assert applied.held(first) == [release.device(0)]
    taint = {"key": f"{DRIVER}/unhealthy", "value": "Xid79", "effect": "NoExecute"}
    selector = {"driver": DRIVER, "pool": "node-a", "device": release.device(0)}
    create(
        cluster.api,
        cluster.rules,
        {"metadata": {"name": "out"}, "spec": {"deviceSelector": selector, "taint": taint}},
    )
    try:
        name = first["metadata"]["name"]
        found = cluster.wait(
            "the pod is disrupted", lambda: condition(applied.pod(name), "DisruptionTarget"), seconds=10
        )
        assert (found["status"], found["reason"]) == ("True", "DeletionByDeviceTaintManager")
        second = applied.running(_pod_of_job(cluster, but=name))
        assert applied.held(second) == [release.device(1)]
        job = cluster.api.get("/apis/batch/v1/namespaces/default/jobs/training").body
        assert not job["status"].get("failed")
    finally:
        cluster.api.delete(f"{cluster.rules}/out")


def test_extended_resource(cluster: Cluster, release: Release, applied: Applied) -> None:
    promised(
        "extended-resource",
        "The pod's `status.extendedResourceClaimStatus` names the claim that the scheduler made.",
    )
    promised(
        "extended-resource", "The class selects healthy GPUs only, for claims as for extended resources."
    )
    _degrade(cluster, release, 0)
    try:
        applied.apply("extended-resource")
        found = applied.running("extended-resource")
        assert found["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
        assert applied.held(found) == [release.device(1)]
        assert applied.seen(found) == sorted([*CONTROL, "/dev/nvidia1"])
        counted = claim("counted", selector="true")
        counted["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = f"counted.{CLASS}"
        create(cluster.api, CLAIMS, counted)
        create(cluster.api, PODS, pod("counted", claims=("counted",)))
        assert applied.held(applied.running("counted")) == [release.device(2)]
    finally:
        cluster.api.delete(f"/apis/resource.k8s.io/v1/deviceclasses/counted.{CLASS}")


def _better_first(release: Release, applied: Applied) -> None:
    case = "healthy-then-degraded"
    promised(case, "While a healthy GPU is free the claim holds it for request `gpu/healthy`.")
    promised(case, "When only degraded ones are free it holds one of them for request `gpu/degraded`.")
    promised(
        case,
        "A failed GPU is never given: with nothing else the pod stays Pending with reason `Unschedulable`.",
    )
    applied.apply(case)
    found = applied.running(case)
    assert (applied.held(found), applied.requests(found)) == ([release.device(0)], ["gpu/healthy"])
    worse = []
    for name in ("second", "third"):
        applied.again(case, name)
        found = applied.running(name)
        assert applied.requests(found) == ["gpu/degraded"]
        worse += applied.held(found)
    assert sorted(worse) == [release.device(1), release.device(2)]
    applied.again(case, "fourth")
    assert applied.pending("fourth") == UNSCHEDULABLE


def _three(applied: Applied, case: str) -> list[str]:
    """What the first and the second pod of the case hold, and why the third waits; then all are gone."""
    names = [f"{case}-{number}" for number in (1, 2, 3)]
    found = []
    for name in names[:2]:
        applied.again(case, name)
        found += applied.held(applied.running(name))
    applied.again(case, names[2])
    found.append(applied.pending(names[2]))
    applied.delete(*names)
    return found


def _only_templates(item: Json) -> None:
    """Gives the case's own pod a scheduler that doesn't exist: only its template is wanted."""
    if item["kind"] == "Pod":
        item["metadata"]["name"] += "-unused"
        item["spec"]["schedulerName"] = "nobody"


def _exactly(template: Json) -> Json:
    found: Json = template["spec"]["spec"]["devices"]["requests"][0]["exactly"]
    return found


def _pod_of_job(cluster: Cluster, *, but: str) -> str:
    def made() -> Any:
        items = cluster.api.get(PODS, labelSelector="job-name=training").body["items"]
        return next((each["metadata"]["name"] for each in items if each["metadata"]["name"] != but), "")

    return str(cluster.wait("the Job has made a pod", made, seconds=30))


def _fail(cluster: Cluster, release: Release, gpu: int) -> None:
    release.gpus.xid(gpu, 79, "GPU has fallen off the bus.")
    _until(cluster, release, gpu, lambda shown: shown[0] == "Unhealthy")


def _degrade(cluster: Cluster, release: Release, gpu: int) -> None:
    release.gpus.xid(gpu, 94, "Contained ECC error.")
    _until(cluster, release, gpu, lambda shown: shown[0] == "Degraded")


def _until(
    cluster: Cluster, release: Release, gpu: int, holds: Callable[[tuple[object, object, object]], bool]
) -> None:
    device = release.device(gpu)
    cluster.wait(f"GPU {gpu} is so", lambda: holds(health(cluster.api, device)), seconds=20)
