"""Claims for the tests of claim status."""

from datetime import UTC, datetime
from typing import Any

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef, Condition, ConditionStatus
from gpuvitals.model.ids import ClaimUid, NodeName
from gpuvitals_sim.apiserver import ApiServer

KIND = "resourceclaims.resource.k8s.io"
DRIVER = "gpu.vitals.internal"


def entry(status: ConditionStatus = ConditionStatus.TRUE, reason: str = "None") -> ClaimEntry:
    healthy = Condition(
        type="Healthy",
        status=status,
        reason=reason,
        message="",
        transition_time=datetime(2026, 11, 24, 1, 2, 3, 456, tzinfo=UTC),
    )
    return ClaimEntry(
        driver=DRIVER,
        pool=NodeName("node-a"),
        device="gpu-0",
        share_id=None,
        conditions=(healthy,),
        data=(("score", 100),),
    )


def allocated_claim(server: ApiServer, name: str = "c") -> dict[str, Any]:
    client = server.client("test")
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}
    claim = client.create(
        KIND,
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"devices": {"requests": [request]}},
        },
    )
    result = {"request": "gpu", "driver": DRIVER, "pool": "node-a", "device": "gpu-0"}
    claim["status"] = {"allocation": {"devices": {"results": [result]}}}
    stored: dict[str, Any] = client.update_status(KIND, claim)
    return stored


def reference(claim: dict[str, Any]) -> ClaimRef:
    meta = claim["metadata"]
    return ClaimRef(namespace=meta["namespace"], name=meta["name"], uid=ClaimUid(meta["uid"]))
