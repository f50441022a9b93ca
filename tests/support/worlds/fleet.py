"""Small fleets as the controller sees them: nodes, GPUs out of service, holders and remediations."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gpuvitals.escalation.incident import remediation_name
from gpuvitals.escalation.policy import EscalationPolicy
from gpuvitals.escalation.remediation import Cause, Remediation, Status, Target
from gpuvitals.escalation.world import (
    Capability,
    Claim,
    DeviceOut,
    Leadership,
    Node,
    Pod,
    Report,
    ResetGroup,
    Source,
    World,
)
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import BootId, ClaimUid, GpuUuid, NodeName, Reason

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""A Monday."""
EPOCH = 7
POLICY = "gpus"
SIGNED = Status(epoch=EPOCH)
GPUS = 4


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def gpu(node: int, index: int) -> GpuUuid:
    return GpuUuid(f"GPU-{node}-{index}")


def node(number: int = 0, **changes: object) -> Node:
    members = [gpu(number, index) for index in range(GPUS)]
    base = Node(
        name=NodeName(f"node-{number}"),
        uid=f"uid-{number}",
        boot_id=BootId("boot-1"),
        gpus=GPUS,
        policy=POLICY,
        report=Report(
            boot_id=BootId("boot-1"),
            driver_load="595.45.04#1",
            start="start-1",
            resets=tuple(ResetGroup(members=(each,), capability=Capability.ABLE) for each in members),
        ),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def device(number: int = 0, index: int = 0, reason: str = "Xid95", **changes: object) -> DeviceOut:
    base = DeviceOut(
        node=NodeName(f"node-{number}"),
        gpu=gpu(number, index),
        reason=Reason(reason),
        since=ago(minutes=30),
        confidence=Confidence.CORROBORATED,
        platform="H100/bare-metal",
        policy=POLICY,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def cause_of(out: DeviceOut) -> Cause:
    return Cause(
        reason=out.reason,
        since=out.since,
        confidence=out.confidence,
        witnesses=out.witnesses,
        recovery_action=out.recovery_action,
    )


def target_of(out: DeviceOut) -> Target:
    return Target(node=out.node, node_uid=out.node.replace("node", "uid"), gpu=out.gpu)


def remediation(out: DeviceOut, status: Status | None = SIGNED, **changes: object) -> Remediation:
    base = Remediation(
        name=remediation_name(target_of(out), cause_of(out)),
        target=target_of(out),
        cause=cause_of(out),
        platform=out.platform,
        status=status,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def claim(name: str, *gpus: GpuUuid, prepared: bool = True, pods: Iterable[str] = ()) -> Claim:
    return Claim(
        uid=ClaimUid(name), namespace="work", name=name, gpus=gpus, prepared=prepared, pods=tuple(pods)
    )


def pod(name: str, *claims: str, **changes: object) -> Pod:
    base = Pod(
        uid=name,
        namespace="work",
        name=name,
        claims=tuple(ClaimUid(each) for each in claims),
        owner="ReplicaSet",
        workload="inference",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def world(
    nodes: Iterable[Node] = (),
    out: Iterable[DeviceOut] = (),
    remediations: Iterable[Remediation] = (),
    policy: EscalationPolicy | None = None,
    **changes: object,
) -> World:
    """A synced world with one leader that knows every remediation. Pods are listed for every node."""
    found = list(nodes) or [node()]
    devices: dict[NodeName, tuple[DeviceOut, ...]] = {}
    for each in out:
        devices[each.node] = (*devices.get(each.node, ()), each)
    stored = {each.name: each for each in remediations}
    base = World(
        nodes={each.name: each for each in found},
        out=devices,
        remediations=stored,
        leadership=Leadership(
            epoch=EPOCH, lease_ends=NOW + timedelta(seconds=60), known=frozenset(stored), user="controller"
        ),
        pods={each.name: () for each in found},
        policies={POLICY: policy or EscalationPolicy(name=POLICY)},
        sources=tuple(
            Source(name=each, synced=True)
            for each in ("slices", "nodes", "claims", "remediations", "policies")
        ),
    )
    return replace(base, **changes)  # type: ignore[arg-type]
