"""The simulated controllers: claims, taints, budgets, nodes, namespaces, garbage."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH
from gpuvitals_sim.controllers import ControllerManager, ControllerSettings
from support.waiting import eventually

CLAIMS, SLICES = "resourceclaims.resource.k8s.io", "resourceslices.resource.k8s.io"
TEMPLATES, RULES = "resourceclaimtemplates.resource.k8s.io", "devicetaintrules.resource.k8s.io"
BUDGETS = "poddisruptionbudgets.policy"
DEVICE = {"driver": "gpu.vitals.internal", "pool": "node-a", "device": "gpu-0"}
REQUESTS = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}
Object = dict[str, Any]


@pytest.fixture
def client() -> Iterator[InProcessClient]:
    """A cluster with running controllers; none of them may have failed when the test ends."""
    api = Api()
    settings = ControllerSettings(rule_status_seconds=0.3)
    with ControllerManager(InProcessClient(api, "controllers"), settings=settings) as manager:
        yield InProcessClient(api, "test")
    assert manager.failures == []


def pod(name: str = "p", **spec: Any) -> Object:
    containers = [{"name": "c", "image": "i"}]
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": containers, **spec}}


def templated_pod(client: InProcessClient) -> Object:
    client.create(TEMPLATES, {"metadata": {"name": "t", "namespace": "default"}, "spec": {"spec": REQUESTS}})
    reference = {"name": "gpu", "resourceClaimTemplateName": "t"}
    return client.create("pods", pod(resourceClaims=[reference]))


def claim_of(client: InProcessClient, name: str = "p") -> Object | None:
    entries = client.get("pods", name, "default").get("status", {}).get("resourceClaimStatuses") or []
    return client.find(CLAIMS, entries[0]["resourceClaimName"], "default") if entries else None


def hold(
    client: InProcessClient, claim: Object, holder: Object, *, tolerations: list[Object] | None = None
) -> None:
    """Allocate the claim's device and reserve it for the pod, as the scheduler does; then bind the pod."""
    claim["metadata"]["finalizers"] = ["resource.kubernetes.io/delete-protection"]
    claim = client.update(CLAIMS, claim)
    result = {"request": "gpu", **DEVICE, "tolerations": tolerations or []}
    consumer = {"resource": "pods", "name": holder["metadata"]["name"], "uid": holder["metadata"]["uid"]}
    claim["status"] = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [consumer]}
    client.update_status(CLAIMS, claim)
    target = {"kind": "Node", "name": "node-a"}
    client.create("pods", {"metadata": holder["metadata"], "target": target}, subresource="binding")


def holding_pod(client: InProcessClient, *, tolerations: list[Object] | None = None) -> Object:
    """A pod on node-a that holds the device through a claim of its own making."""
    claim = client.create(CLAIMS, {"metadata": {"name": "c", "namespace": "default"}, "spec": REQUESTS})
    holder = client.create("pods", pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "c"}]))
    hold(client, claim, holder, tolerations=tolerations)
    return holder


def taint(effect: str, *, added: datetime | None = None) -> Object:
    moment = (added or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"key": "gpu.vitals.internal/unhealthy", "value": "Xid79", "effect": effect, "timeAdded": moment}


def publish(client: InProcessClient, *taints: Object) -> None:
    pool = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": "gpu-0", "taints": list(taints)}, {"name": "gpu-1"}]
    spec = {"driver": DEVICE["driver"], "nodeName": "node-a", "pool": pool, "devices": devices}
    client.create(SLICES, {"metadata": {"name": "s"}, "spec": spec})


def is_going(client: InProcessClient) -> bool:
    return "deletionTimestamp" in client.get("pods", "p", "default")["metadata"]


def test_a_claim_is_generated_for_a_pod(client: InProcessClient) -> None:
    owner = templated_pod(client)
    claim = eventually(lambda: claim_of(client))
    assert claim["metadata"]["name"].startswith("p-gpu-")
    assert claim["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert claim["metadata"]["annotations"] == {"resource.kubernetes.io/pod-claim-name": "gpu"}
    assert claim["spec"]["devices"]["requests"][0]["name"] == "gpu"
    assert len(client.list(CLAIMS)) == 1


def test_a_template_may_come_after_the_pod(client: InProcessClient) -> None:
    client.create("pods", pod(resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "t"}]))
    client.create(TEMPLATES, {"metadata": {"name": "t", "namespace": "default"}, "spec": {"spec": REQUESTS}})
    eventually(lambda: claim_of(client))


def test_the_device_is_free_when_its_pod_has_finished(client: InProcessClient) -> None:
    """Allocation, reservation, finalizer and device status go; the claim itself stays."""
    holding_pod(client)
    status = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c", "namespace": "default"},
    }
    client.apply(
        CLAIMS, {**status, "status": {"devices": [{**DEVICE, "conditions": []}]}}, subresource="status"
    )
    client.patch("pods", ("default", "p"), {"status": {"phase": "Succeeded"}}, subresource="status")
    eventually(lambda: not client.get(CLAIMS, "c", "default")["status"])
    eventually(lambda: "finalizers" not in client.get(CLAIMS, "c", "default")["metadata"])


def test_a_generated_claim_goes_with_its_pod(client: InProcessClient) -> None:
    holder = templated_pod(client)
    claim = eventually(lambda: claim_of(client))
    hold(client, claim, client.get("pods", "p", "default"))
    client.delete("pods", holder["metadata"]["name"], "default", options=DeleteOptions(grace_seconds=0))
    eventually(lambda: client.list(CLAIMS) == [])


def test_no_execute_evicts_the_holder_and_says_why(client: InProcessClient) -> None:
    holding_pod(client)
    publish(client, taint("NoExecute"))
    eventually(lambda: is_going(client))
    conditions = client.get("pods", "p", "default")["status"]["conditions"]
    reason = {entry["type"]: entry.get("reason") for entry in conditions}
    assert reason["DisruptionTarget"] == "DeletionByDeviceTaintManager"
    assert [event["reason"] for event in client.list("events")] == ["DeviceTaintManagerEviction"]


@pytest.mark.parametrize("effect", ["None", "NoSchedule"])
def test_weaker_effects_evict_nobody(client: InProcessClient, effect: str) -> None:
    holding_pod(client)
    publish(client, taint(effect))
    time.sleep(0.1)
    assert not is_going(client)


def test_a_toleration_holds_for_its_seconds_from_the_time_of_the_taint(client: InProcessClient) -> None:
    toleration = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    holding_pod(client, tolerations=[toleration])
    publish(client, taint("NoExecute"))
    time.sleep(0.1)
    assert not is_going(client)
    client.patch(
        SLICES,
        ("", "s"),
        {
            "spec": {
                "devices": [
                    {
                        "name": "gpu-0",
                        "taints": [taint("NoExecute", added=datetime.now(UTC) - timedelta(seconds=61))],
                    }
                ]
            }
        },
    )
    eventually(lambda: is_going(client))


def rule(effect: str) -> Object:
    return {
        "metadata": {"name": "r"},
        "spec": {"deviceSelector": DEVICE, "taint": {"key": "k", "effect": effect}},
    }


def condition_of(client: InProcessClient) -> tuple[str, str, str] | None:
    for entry in client.get(RULES, "r").get("status", {}).get("conditions") or ():
        return entry["status"], entry["reason"], entry["message"]
    return None


def test_a_rule_without_effect_says_what_it_would_do(client: InProcessClient) -> None:
    publish(client)
    holding_pod(client)
    client.create(RULES, rule("None"))
    status, reason, message = eventually(lambda: condition_of(client))
    assert (status, reason) == ("False", "NoEffect")
    assert message.startswith(
        "1 published device selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace if the effect"
    )
    time.sleep(0.05)
    assert not is_going(client)


def test_a_rule_evicts_and_reports_its_end(client: InProcessClient) -> None:
    holding_pod(client)
    client.create(RULES, rule("NoExecute"))
    eventually(lambda: is_going(client))
    done = ("False", "Completed", "1 pod evicted since starting the controller.")
    eventually(lambda: condition_of(client) == done)


def test_a_budget_counts_ready_pods(client: InProcessClient) -> None:
    selector = {"matchLabels": {"app": "a"}}
    client.create(
        BUDGETS,
        {
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": selector},
        },
    )
    for name in ("x", "y"):
        item = pod(name, nodeName="node-a")
        item["metadata"]["labels"] = {"app": "a"}
        client.create("pods", item)
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        client.patch(
            "pods", ("default", name), {"status": ready}, patch_type=STRATEGIC_PATCH, subresource="status"
        )
    status = eventually(
        lambda: (
            client.get(BUDGETS, "b", "default")["status"].get("disruptionsAllowed")
            and client.get(BUDGETS, "b", "default")["status"]
        )
    )
    assert (status["expectedPods"], status["currentHealthy"], status["desiredHealthy"]) == (2, 2, 1)
    client.create("pods", {"metadata": {"name": "x", "namespace": "default"}}, subresource="eviction")
    eventually(lambda: client.get(BUDGETS, "b", "default")["status"]["disruptionsAllowed"] == 0)


def test_a_node_is_schedulable_once_ready_and_not_while_cordoned(client: InProcessClient) -> None:
    client.create("nodes", {"metadata": {"name": "node-a"}})
    assert client.get("nodes", "node-a")["spec"]["taints"][0]["key"] == "node.kubernetes.io/not-ready"
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    client.patch("nodes", ("", "node-a"), ready, patch_type=STRATEGIC_PATCH, subresource="status")
    eventually(lambda: not client.get("nodes", "node-a")["spec"].get("taints"))
    client.patch("nodes", ("", "node-a"), {"spec": {"unschedulable": True}})
    eventually(lambda: client.get("nodes", "node-a")["spec"].get("taints"))
    assert client.get("nodes", "node-a")["spec"]["taints"] == [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    ]


def test_slices_go_with_their_node(client: InProcessClient) -> None:
    node = client.create("nodes", {"metadata": {"name": "node-a"}})
    publish(client)
    owner = {"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": node["metadata"]["uid"]}
    client.patch(SLICES, ("", "s"), {"metadata": {"ownerReferences": [owner]}})
    time.sleep(0.05)
    assert client.find(SLICES, "s") is not None
    client.delete("nodes", "node-a")
    eventually(lambda: client.find(SLICES, "s") is None)


@pytest.mark.parametrize(
    ("propagation", "survives"), [("Orphan", True), ("Foreground", False), ("Background", False)]
)
def test_a_deletion_orphans_or_takes_its_dependents(
    client: InProcessClient, propagation: str, survives: bool
) -> None:
    owner = client.create("configmaps", {"metadata": {"name": "owner", "namespace": "default"}})
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    client.create(
        "configmaps", {"metadata": {"name": "child", "namespace": "default", "ownerReferences": [reference]}}
    )
    client.delete("configmaps", "owner", "default", options=DeleteOptions(propagation=propagation))
    eventually(lambda: client.find("configmaps", "owner", "default") is None)
    if survives:
        assert "ownerReferences" not in client.get("configmaps", "child", "default")["metadata"]
    else:
        eventually(lambda: client.find("configmaps", "child", "default") is None)


def test_a_deleted_namespace_empties_itself(client: InProcessClient) -> None:
    client.create("namespaces", {"metadata": {"name": "team"}})
    client.create("configmaps", {"metadata": {"name": "c", "namespace": "team"}})
    client.delete("namespaces", "team")
    eventually(lambda: client.find("namespaces", "team") is None)
    assert client.list("configmaps", "team") == []
