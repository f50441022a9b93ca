"""The allocation in a claim's status: written from the allocator's picks, and read back.

Place in the chain: between allocator and binder.
Source: kubernetes/api resource/v1 (AllocationResult).
"""

from collections.abc import Iterator, Mapping, Sequence

from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.scheduler.allocator import Picked
from gpuvitals_sim.scheduler.node_filter import only_node
from gpuvitals_sim.scheduler.pools import DeviceId


def allocation_from(claim: Obj, picked: Sequence[Picked], classes: Mapping[str, Obj], node: str) -> Obj:
    """`status.allocation` of the claim."""
    devices: Obj = {"results": [_result(pick) for pick in picked]}
    config = _config(claim, picked, classes)
    if config:
        devices["config"] = config
    allocation: Obj = {
        "devices": devices,
        "allocationTimestamp": timestamp(),
    }
    selector = _node_selector(picked, node)
    if selector:
        allocation["nodeSelector"] = selector
    return allocation


def allocated_devices(claim: Obj) -> Iterator[tuple[DeviceId, Obj]]:
    """The devices that the claim holds, each with its result."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or ():
        yield DeviceId(result["driver"], result["pool"], result["device"]), result


def _result(pick: Picked) -> Obj:
    identity = pick.device.id
    result: Obj = {
        "request": pick.choice.name,
        "driver": identity.driver,
        "pool": identity.pool,
        "device": identity.device,
    }
    if pick.choice.admin_access:
        result["adminAccess"] = True
    if pick.choice.tolerations:
        result["tolerations"] = list(pick.choice.tolerations)
    return result


def _node_selector(picked: Sequence[Picked], node: str) -> Obj | None:
    """The node of its local devices, else the node selectors of the devices' slices."""
    if any(pick.device.bound_to_node for pick in picked):
        return only_node(node)
    term: Obj = {}
    for pick in picked:
        for wanted in (pick.device.node_selector or {}).get("nodeSelectorTerms") or ():
            for kind in ("matchFields", "matchExpressions"):
                known = term.setdefault(kind, [])
                known += [rule for rule in wanted.get(kind) or () if rule not in known]
    term = {kind: rules for kind, rules in term.items() if rules}
    return {"nodeSelectorTerms": [term]} if term else None


def _config(claim: Obj, picked: Sequence[Picked], classes: Mapping[str, Obj]) -> list[Obj]:
    """Class configs once a class, then those of the claim; `requests` is omitted if it would name all."""
    chosen = list(dict.fromkeys((pick.choice.class_name, pick.choice.name) for pick in picked))
    names = {name for _, name in chosen} | {name.split("/")[0] for _, name in chosen}
    entries: list[Obj] = []
    for class_name in dict.fromkeys(class_name for class_name, _ in chosen):
        requests = [name for owner, name in chosen if owner == class_name]
        entries += [
            {"source": "FromClass", "requests": requests, **config}
            for config in classes[class_name]["spec"].get("config") or ()
        ]
    devices = claim["spec"].get("devices") or {}
    for config in devices.get("config") or ():
        requests = list(config.get("requests") or ())
        if not requests or names & set(requests):
            entries.append({"source": "FromClaim", **config, "requests": requests})
    return [_without_all(entry, [name for _, name in chosen]) for entry in entries]


def _without_all(entry: Obj, chosen: Sequence[str]) -> Obj:
    """The entry without `requests` if they cover every chosen request."""
    named = set(entry["requests"])
    if not named or all(named & {name, name.split("/")[0]} for name in chosen):
        return {key: value for key, value in entry.items() if key != "requests"}
    return entry
