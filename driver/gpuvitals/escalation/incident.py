"""Incidents: the devices and nodes that are out, since when and why, each with its open remediation."""

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

from gpuvitals.escalation.policy import EscalationPolicy
from gpuvitals.escalation.remediation import Cause, Remediation, Target
from gpuvitals.escalation.world import DeviceOut, Node, Return, World

_NAME_BYTES = 10


class Condition(Enum):
    """The published condition of a target. UNKNOWN ends and undoes nothing."""

    OUT = "out"
    PROBATION = "probation"
    GOOD = "good"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One target with its present condition. `cause` is the present fault if the target is out.

    If the target is not out, `cause` is that of the remediation. `remediation` is None for a new incident. `node` is
    None if the node is gone.
    """

    target: Target
    cause: Cause
    condition: Condition
    policy: EscalationPolicy
    node: Node | None
    device: DeviceOut | None = None
    remediation: Remediation | None = None

    @property
    def name(self) -> str:
        """The name of its remediation."""
        return self.remediation.name if self.remediation else remediation_name(self.target, self.cause)


def incidents(world: World) -> tuple[Incident, ...]:
    """All incidents, oldest first. Those with an open remediation stay listed while their target is not out."""
    found = [_of_remediation(each, world) for each in world.remediations.values() if each.is_open]
    covered = {each.target for each in found}
    for name, devices in world.out.items():
        node = world.nodes.get(name)
        if node is None:
            continue  # A slice that names a node which does not exist is ignored.
        fresh = (_of_device(device, node, world) for device in devices)
        found += [each for each in fresh if each.target not in covered]
    for node in world.nodes.values():
        target = Target(node=node.name, node_uid=node.uid)
        if node.faults and target not in covered:
            found.append(_of_node(node, target, world))
    return tuple(sorted(found, key=lambda each: (each.cause.since, each.name)))


def remediation_name(target: Target, cause: Cause) -> str:
    """The name of the remediation: a hash of node UID, GPU UUID and `since`, so that creating it is idempotent."""
    text = "\0".join((target.node_uid, target.gpu or "", cause.since.isoformat()))
    return f"gpu-{sha256(text.encode()).hexdigest()[: 2 * _NAME_BYTES]}"


def _of_remediation(remediation: Remediation, world: World) -> Incident:
    target = remediation.target
    node, device = world.node(target), world.device(target)
    if node is None:
        return _incident(remediation, world, Condition.UNKNOWN)
    if target.gpu is None and node.faults:
        return _incident(remediation, world, Condition.OUT, node)
    if device is not None:
        return _incident(remediation, world, Condition.OUT, node)
    match world.returned.get(target):
        case Return.GOOD:
            condition = Condition.GOOD
        case Return.PROBATION:
            condition = Condition.PROBATION
        case None:
            condition = Condition.UNKNOWN
    return _incident(remediation, world, condition, node)


def _incident(
    remediation: Remediation, world: World, condition: Condition, node: Node | None = None
) -> Incident:
    device = world.device(remediation.target) if node is not None else None
    cause = remediation.cause
    if device is not None:
        cause = _cause(device)
    elif node is not None and condition is Condition.OUT and node.faults:
        cause = _node_cause(node)
    name = device.policy if device is not None else node.policy if node is not None else ""
    return Incident(
        target=remediation.target,
        cause=cause,
        condition=condition,
        policy=world.policy(name),
        node=node,
        device=device,
        remediation=remediation,
    )


def _of_device(device: DeviceOut, node: Node, world: World) -> Incident:
    return Incident(
        target=Target(node=node.name, node_uid=node.uid, gpu=device.gpu),
        cause=_cause(device),
        condition=Condition.OUT,
        policy=world.policy(device.policy),
        node=node,
        device=device,
    )


def _of_node(node: Node, target: Target, world: World) -> Incident:
    return Incident(
        target=target,
        cause=_node_cause(node),
        condition=Condition.OUT,
        policy=world.policy(node.policy),
        node=node,
    )


def _cause(device: DeviceOut) -> Cause:
    return Cause(
        reason=device.reason,
        since=device.since,
        confidence=device.confidence,
        witnesses=device.witnesses,
        recovery_action=device.recovery_action,
    )


def _node_cause(node: Node) -> Cause:
    """The oldest fault of the node."""
    assert node.faults
    fault = min(node.faults, key=lambda each: (each.since, each.reason))
    return Cause(
        reason=fault.reason, since=fault.since, confidence=fault.confidence, witnesses=fault.witnesses
    )
