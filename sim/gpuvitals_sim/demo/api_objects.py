"""Reads fields of API objects for the checks; missing fields are empty.

Place in the chain: under the observer. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpuvitals.inventory.naming import Naming
from gpuvitals_sim.apiserver.json_types import Obj

_OUT = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One device in a slice. `out`: new claims can't get it. `taints`: key without the driver, value and effect."""

    published: bool
    out: bool
    state: str = ""
    score: int = 0
    health_class: str = ""
    reason: str = ""
    taints: tuple[tuple[str, str, str], ...] = ()


def device_facts(device: Obj | None, naming: Naming) -> DeviceFacts:
    """The facts of a device, None for one that is not published."""
    if device is None:
        return DeviceFacts(published=False, out=True)
    attributes = device.get("attributes") or {}

    def text(key: str) -> str:
        return str(attributes.get(f"{naming.attribute_domain}/{key}", {}).get("string", ""))

    taints = tuple(
        (one["key"].removeprefix(f"{naming.driver}/"), one.get("value", ""), one["effect"])
        for one in device.get("taints") or ()
    )
    return DeviceFacts(
        published=True,
        out=any(effect == _OUT for _, _, effect in taints),
        state=text("state"),
        score=int(attributes.get(f"{naming.attribute_domain}/score", {}).get("int", 0)),
        health_class=text("class"),
        reason=text("reason"),
        taints=taints,
    )


def devices_of(slices: Iterable[Obj], node: str, naming: Naming) -> Iterator[Obj]:
    """The published devices of a node, in order."""
    for item in slices:
        spec = item["spec"]
        if spec.get("nodeName") == node and spec["driver"] == naming.driver:
            yield from spec.get("devices") or ()


def condition(conditions: Iterable[Obj] | None, kind: str) -> Obj:
    """The condition of this type, empty if there is none."""
    return next((one for one in conditions or () if one["type"] == kind), {})


def claim_name(pod: Obj, reference: str) -> str:
    """The name of the claim that was generated for the pod, empty until then."""
    entries = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return next((one.get("resourceClaimName", "") for one in entries if one["name"] == reference), "")


def held_devices(claim: Obj | None) -> tuple[tuple[str, str], ...]:
    """Pool and device of each device of the claim."""
    allocation = ((claim or {}).get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return tuple((one["pool"], one["device"]) for one in results)


def reported_health(pod: Obj) -> tuple[tuple[str, str], ...]:
    """Health and message of each of the pod's devices, as the kubelet reports them."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return tuple(
        (resource.get("health", ""), resource.get("message", ""))
        for status in statuses
        for entry in status.get("allocatedResourcesStatus") or ()
        for resource in entry.get("resources") or ()
    )


def shown_condition(found: Mapping[str, Any]) -> str:
    """A condition in one line."""
    if not found:
        return "no such condition"
    reason = f", reason {found['reason']}" if found.get("reason") else ""
    return f"{found['type']}={found['status']}{reason}"
