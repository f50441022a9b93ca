"""Policies and reports on a real cluster: an SRE looks first, switches the agents on, and a person has the last word."""

import pytest

from cluster.cluster import NODE, Cluster
from cluster.objects import DRIVER, claim_condition, devices, is_running, start_gpu_pod, taints
from cluster.release import Release
from cluster.test_chart import BELIEVE, UNHEALTHY
from support.raw_api import MERGE_PATCH

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]

POLICIES = "/apis/vitals.internal/v1alpha1/gpuhealthpolicies"
OBSERVE = {
    "apiVersion": "vitals.internal/v1alpha1",
    "kind": "GPUHealthPolicy",
    "metadata": {"name": "look-first"},
    "spec": {"mode": "Observe"},
}


# One GPU: of several, the scheduler would give the pod a healthy one.
@pytest.mark.parametrize("release", [(1, "h100")], indirect=True, ids=["one-gpu"])
def test_a_fleet_that_is_observed_isolates_nothing_until_it_is_switched_on(
    cluster: Cluster, release: Release
) -> None:
    release.install(flags=[BELIEVE])
    release.wait_until_ready()
    api, failed = cluster.api, release.device(0)
    cluster.wait("its GPUs are published", release.has_published, seconds=10)
    assert api.post(POLICIES, OBSERVE).status == 201
    annotate(cluster, f"{failed} bad ticket 123")

    def effect() -> str:
        return str((taints(devices(api)[failed]).get(UNHEALTHY) or {}).get("effect", ""))

    cluster.wait("the fault is shown", lambda: effect() == "None", seconds=40)
    start_gpu_pod(api, "train", selector=f'device.driver == "{DRIVER}"')
    cluster.wait("a pod gets it all the same", lambda: is_running(api, "train"), seconds=30)
    cluster.wait("its claim says so", lambda: claim_condition(api, "train")[1] == "ReportedBad", seconds=5)
    mode = {"spec": {"mode": "Isolate"}}
    assert api.patch(f"{POLICIES}/look-first", MERGE_PATCH, mode).status == 200
    cluster.wait("it leaves service", lambda: effect() == "NoSchedule", seconds=5)
    annotate(cluster, None)
    cluster.wait("it is on probation", lambda: effect() == "", seconds=40)
    assert is_running(api, "train")
    assert api.delete(f"{POLICIES}/look-first").status == 200


def annotate(cluster: Cluster, text: str | None) -> None:
    """What a person writes on the Node of the GPUs; None takes it back."""
    body = {"metadata": {"annotations": {"vitals.internal/report": text}}}
    assert cluster.api.patch(f"/api/v1/nodes/{NODE}", MERGE_PATCH, body).status == 200
