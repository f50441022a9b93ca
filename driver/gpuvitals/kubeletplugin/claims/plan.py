"""Decides which devices a claim gets. Pure.

Devices come from the claim's allocation for this driver and this node's pool, and from no other source. A refusal
concerns its claim only.
"""

import re
from dataclasses import dataclass, replace
from datetime import timedelta

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.device import TaintEffect, device_name, is_offered, silicon
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.taints import taints
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, AllocatedDevice, Toleration
from gpuvitals.kubeletplugin.held_claim import Conflict, HeldClaim, HeldDevice, MigIds, conflict, excludes
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode, RefusedError
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import DeviceName, GpuUuid, NodeName
from gpuvitals.model.snapshot import GpuHealth, Snapshot

MAX_RESULTS = 32
"""Allocation results of one claim. Source: kubernetes/api resource/v1/types.go."""

_SKEW = timedelta(seconds=60)
"""Largest assumed difference between the clocks of API server and node; events this close together have no order."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """The node's state. `fenced` devices are refused to every claim that does not hold them yet."""

    snapshot: Snapshot
    naming: Naming
    fenced: frozenset[GpuUuid] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparePlan:
    """The devices for the claim, in the order of its allocation; none if no result is of this driver.

    `result_requests` has the request names of each device's results, including the subrequest part: configs are
    selected by them.
    """

    claim: ClaimRef
    devices: tuple[HeldDevice, ...]
    result_requests: tuple[tuple[str, ...], ...]


def invalid_ref(ref: ClaimRef) -> Refusal | None:
    """The refusal of a reference that can't name a claim; None for a valid one, whose UID is safe in a file name."""
    checks = (("uid", _UID, ref.uid), ("namespace", _LABEL, ref.namespace), ("name", _SUBDOMAIN, ref.name))
    for field, pattern, value in checks:
        if pattern.fullmatch(value) is None:
            shown = ascii(value[:80])
            return Refusal(
                code=RefusalCode.INVALID_ARGUMENT,
                message=f"claim {field} {shown} is not a valid {field}; nothing was prepared",
            )
    return None


def plan_prepare(
    ref: ClaimRef, claim: AllocatedClaim, prepared: tuple[HeldClaim, ...], view: NodeView
) -> PreparePlan | Refusal:
    """The devices for a first Prepare of `ref`, or the refusal.

    `prepared` are the claims that hold devices on this node; entries of the claim itself are ignored.
    """
    try:
        _check_identity(ref, claim)
        results = _own_results(claim, view)
        planned = [_planned(result, results, claim, view) for result in results]
        devices, requests = _merged(results, planned)
    except RefusedError as refused:
        return refused.refusal
    found = conflict(ref.uid, devices, prepared)
    if found is not None:
        return Refusal(code=RefusalCode.DEVICE_IN_USE, message=in_use(found))
    return PreparePlan(claim=ref, devices=devices, result_requests=requests)


def in_use(found: Conflict) -> str:
    """The message for a device that another claim holds."""
    holder = found.holder
    return (
        f"device {found.device.device} is prepared for claim {holder.namespace}/{holder.name} ({holder.uid}); "
        "it is free once that claim is unprepared"
    )


def same_allocation(claim: AllocatedClaim, held: HeldClaim, naming: Naming, node: NodeName) -> bool:
    """Whether the claim's present allocation is the one prepared; a claim can be allocated again under its UID.

    The pool is compared too, because device names are the same on every node.
    """
    if claim.uid != held.claim.uid or not claim.allocated:
        return False
    allocated = {
        (result.pool, result.device, result.share_id, result.admin_access)
        for result in claim.results
        if result.driver == naming.driver
    }
    return allocated == {(node, device.device, device.share_id, device.admin) for device in held.devices}


def _check_identity(ref: ClaimRef, claim: AllocatedClaim) -> None:
    if claim.uid != ref.uid:
        raise RefusedError(
            RefusalCode.CLAIM_REPLACED,
            f"claim {ref.namespace}/{ref.name} now has uid {claim.uid}, not {ref.uid}; the pod's claim is gone",
        )
    if not claim.allocated:
        raise RefusedError(
            RefusalCode.NOT_ALLOCATED,
            f"claim {ref.namespace}/{ref.name} has no allocation; waiting for the scheduler",
        )


def _own_results(claim: AllocatedClaim, view: NodeView) -> tuple[AllocatedDevice, ...]:
    if len(claim.results) > MAX_RESULTS:
        raise RefusedError(
            RefusalCode.TOO_MANY_DEVICES,
            f"claim {claim.namespace}/{claim.name} has {len(claim.results)} allocation results, "
            f"more than {MAX_RESULTS}; it is refused",
        )
    own = tuple(result for result in claim.results if result.driver == view.naming.driver)
    for result in own:
        _check_names(result, view)
    return own


def _check_names(result: AllocatedDevice, view: NodeView) -> None:
    parts = result.request.split("/")
    if len(parts) > 2 or any(_LABEL.fullmatch(part) is None for part in parts):
        raise RefusedError(
            RefusalCode.INVALID_ARGUMENT,
            f"request {result.request[:140]!a} is not a request name; the claim is refused",
        )
    if result.share_id is not None and _UID.fullmatch(result.share_id) is None:
        raise RefusedError(
            RefusalCode.INVALID_ARGUMENT,
            f"share id {result.share_id[:80]!a} is not a uid; the claim is refused",
        )
    if result.pool != view.snapshot.node:
        raise RefusedError(
            RefusalCode.WRONG_POOL,
            f"device {result.device[:80]!a} is in pool {result.pool[:80]!a}, this node's pool is "
            f"{view.snapshot.node}; the claim is refused here",
        )


def _planned(
    result: AllocatedDevice, results: tuple[AllocatedDevice, ...], claim: AllocatedClaim, view: NodeView
) -> HeldDevice:
    """The device for a result. With several results, a refusal names its request."""
    try:
        return _device(result, claim, view)
    except RefusedError as refused:
        if len(results) == 1:
            raise
        refusal = refused.refusal
        raise RefusedError(refusal.code, f"request {result.request}: {refusal.message}") from refused


def _device(result: AllocatedDevice, claim: AllocatedClaim, view: NodeView) -> HeldDevice:
    entry = _known(result, view.snapshot)
    _check_hardware(entry, result, claim)
    _check_service(entry, result, view)
    gpu = entry.gpu
    minor, mig = gpu.minor, None
    if gpu.mig is not None:
        parent = view.snapshot.find(gpu.mig.parent)
        minor = parent.gpu.minor if parent is not None else None
        mig = MigIds(gpu_instance=gpu.mig.gpu_instance, compute_instance=gpu.mig.compute_instance)
    if minor is None:
        raise RefusedError(
            RefusalCode.NODES_MISSING,
            f"device {result.device} has no known minor number, so its device node is unknown",
        )
    return HeldDevice(
        uuid=gpu.uuid,
        device=DeviceName(result.device),
        minor=minor,
        requests=(result.request.split("/")[0],),
        share_id=result.share_id,
        admin=result.admin_access,
        mig=mig,
    )


def _known(result: AllocatedDevice, snapshot: Snapshot) -> GpuHealth:
    for entry in snapshot.gpus:
        if device_name(entry.gpu) != result.device:
            continue
        if not is_offered(entry.gpu):
            raise RefusedError(
                RefusalCode.UNKNOWN_DEVICE,
                f"device {result.device} is in MIG mode, and only its instances can be prepared; the claim is refused",
            )
        if entry.withheld:
            raise RefusedError(
                RefusalCode.DEVICE_IN_USE,
                f"device {result.device} can't be prepared, since {entry.withheld}; it is free once that claim is "
                "unprepared",
            )
        return entry
    raise RefusedError(
        RefusalCode.UNKNOWN_DEVICE,
        f"device {result.device[:80]!a} is not on node {snapshot.node}{_there(result.device, snapshot)}; "
        "the claim is refused",
    )


def _there(name: str, snapshot: Snapshot) -> str:
    """The present instances of a MIG instance's GPU: after a reboot its layout can differ from the allocation's."""
    slot = silicon(name)
    if slot == name:
        return ""
    names = [device_name(entry.gpu) for entry in snapshot.gpus if is_offered(entry.gpu)]
    now = ", ".join(each for each in names if silicon(each) == slot)
    return f", whose GPU {slot} now has other MIG instances: {now or 'none'}"


def _check_hardware(entry: GpuHealth, result: AllocatedDevice, claim: AllocatedClaim) -> None:
    """Refuses a slot's present board to a claim that was allocated the board before it (docs/adr/030).

    The scheduler chose by the attributes of the earlier board. A claim without evidence of an earlier board gets the
    present one: it was allocated by device name, and the name is the slot's.
    """
    now, taken = entry.gpu.gpu_uuid, entry.slot_taken
    if result.prepared_on:
        if result.prepared_on == now:
            return
        past = f"was prepared for this claim on gpu {result.prepared_on}"
    elif taken is not None and claim.allocated_by is not None and claim.allocated_by < taken - _SKEW:
        past = "was allocated while another GPU was there"
    else:
        return
    raise RefusedError(
        RefusalCode.DEVICE_REPLACED,
        f"device {result.device} {past}, and gpu {now} is in its slot now; delete the pod and its claim, and a new claim "
        "gets the present GPU",
    )


def _check_service(entry: GpuHealth, result: AllocatedDevice, view: NodeView) -> None:
    """Refuses a device that is out of service, except with admin access or a matching toleration.

    A device that a policy keeps in service is not refused, whatever its health. A device that is out of service because
    driver files are missing is not refused here: the step that needs the files does so, and they may be back by now.
    """
    is_unhealthy = entry.verdict.state is HealthState.UNHEALTHY and not entry.spared
    is_out = (entry.isolated and entry.unprepared is None) or is_unhealthy
    is_fenced = entry.gpu.uuid in view.fenced
    if not (is_out or is_fenced) or result.admin_access or _tolerated(entry, result.tolerations, view.naming):
        return
    if is_fenced:
        raise RefusedError(
            RefusalCode.DEVICE_FENCED,
            f"device {result.device} is fenced for a remediation; it takes no new claim until the remediation has ended",
        )
    raise RefusedError(
        RefusalCode.DEVICE_UNHEALTHY,
        f"device {result.device} is {entry.verdict.state.value} ({entry.verdict.reason}): {entry.verdict.detail}",
    )


def _tolerated(entry: GpuHealth, tolerations: tuple[Toleration, ...], naming: Naming) -> bool:
    """Whether a toleration matches the taint that keeps this device out of service.

    A taint with effect None is matched as NoSchedule, since a toleration is for the device and not for its taint's effect.
    """
    carried = taints(entry, naming)
    key = carried[0].key if carried else f"{naming.driver}/unhealthy"
    value = carried[0].value if carried else ""
    return any(_matches(toleration, key, value) for toleration in tolerations)


def _matches(toleration: Toleration, key: str, value: str) -> bool:
    if toleration.effect not in ("", TaintEffect.NO_SCHEDULE.value):
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", key)
    return toleration.key == key and toleration.value == value


def _merged(
    results: tuple[AllocatedDevice, ...], planned: list[HeldDevice]
) -> tuple[tuple[HeldDevice, ...], tuple[tuple[str, ...], ...]]:
    """One entry per device, share and kind of access. Only with admin access may a device occur twice."""
    order: dict[tuple[str, str | None, bool], tuple[HeldDevice, tuple[str, ...]]] = {}
    seen: list[HeldDevice] = []
    for result, device in zip(results, planned, strict=True):
        if any(excludes(device, earlier) for earlier in seen):
            raise RefusedError(
                RefusalCode.DUPLICATE_DEVICE,
                f"device {device.device} is in the allocation twice; the claim is refused",
            )
        seen.append(device)
        key = (device.device, device.share_id, device.admin)
        first, names = order.get(key, (device, ()))
        order[key] = (_with_request(first, device.requests[0]), (*names, result.request))
    return tuple(pair[0] for pair in order.values()), tuple(pair[1] for pair in order.values())


def _with_request(device: HeldDevice, request: str) -> HeldDevice:
    if request in device.requests:
        return device
    return replace(device, requests=(*device.requests, request))
