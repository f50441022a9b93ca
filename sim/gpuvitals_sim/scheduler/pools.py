"""The devices that a node can offer: slices grouped into pools, in the order in which the search tries them.

Place in the chain: built from the cached ResourceSlices and DeviceTaintRules; the allocator walks the pools.
Source: kubernetes/dynamic-resource-allocation structured/internal/incubating (pools), resourceslice/tracker.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.cel import CelDevice, CelError, CompileError, compiled
from gpuvitals_sim.scheduler.node_filter import node_name, selector_matches


class DeviceId(NamedTuple):
    """The identity of a device in a cluster."""

    driver: str
    pool: str
    device: str

    def __str__(self) -> str:
        """The text in the scheduler's messages."""
        return f"{self.driver}/{self.pool}/{self.device}"


@dataclass(slots=True, kw_only=True)
class PoolDevice:
    """One published device. Results of selectors are cached, since they only change with its slice."""

    id: DeviceId
    attributes: Obj
    taints: tuple[Obj, ...]
    cel: CelDevice
    bound_to_node: bool
    node_selector: Obj | None = None
    _answers: dict[str, bool | Exception] = field(default_factory=dict)

    def matches(self, expression: str) -> bool:
        """Whether the selector matches. Raises CelError, or CompileError if the API server accepted a bad one."""
        answer = self._answers.get(expression)
        if answer is None:
            try:
                answer = compiled(expression).matches(self.cel)
            except (CelError, CompileError) as error:
                answer = error
            self._answers[expression] = answer
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One pool as a node sees it. Devices of an incomplete or invalid pool are not allocated."""

    driver: str
    name: str
    devices: tuple[PoolDevice, ...]
    incomplete: bool = False
    invalid: bool = False

    @property
    def id(self) -> str:
        """The text in the scheduler's messages."""
        return f"{self.driver}/{self.name}"


class Inventory:
    """All published devices. `update` is cheap: each version of a slice is read once."""

    def __init__(self) -> None:
        self._slices: tuple[Obj, ...] = ()
        self._rules: tuple[Obj, ...] = ()
        self._read: dict[tuple[str, str], tuple[PoolDevice, ...]] = {}

    def update(self, slices: Sequence[Obj], rules: Iterable[Obj]) -> None:
        """Sets the present slices and taint rules."""
        rules = tuple(rules)
        if _versions(rules) != _versions(self._rules):
            self._read = {}
        self._rules = rules
        self._slices = tuple(sorted(slices, key=lambda item: str(item["metadata"]["name"])))
        known = {_version(item) for item in self._slices}
        self._read = {key: devices for key, devices in self._read.items() if key in known}

    def pools(self, node: Obj) -> tuple[Pool, ...]:
        """The pools that have devices for this node, in the order of the search."""
        grouped: dict[tuple[str, str], list[Obj]] = {}
        for item in self._slices:
            if _reaches(item["spec"], node):
                grouped.setdefault(_pool_key(item), []).append(item)
        return tuple(
            self._pool(key, grouped[key]) for key in sorted(grouped) if not self._obsolete(key, grouped[key])
        )

    def _pool(self, key: tuple[str, str], slices: list[Obj]) -> Pool:
        newest = max(_generation(item) for item in slices)
        current = [item for item in slices if _generation(item) == newest]
        devices = tuple(device for item in current for device in self._devices(item))
        names = [device.id.device for device in devices]
        return Pool(
            driver=key[0],
            name=key[1],
            devices=devices,
            incomplete=len(self._everywhere(key, newest)) != current[0]["spec"]["pool"]["resourceSliceCount"],
            invalid=len(set(names)) != len(names),
        )

    def _obsolete(self, key: tuple[str, str], slices: list[Obj]) -> bool:
        """Whether a newer generation of the pool exists that does not reach this node."""
        newest = max(_generation(item) for item in slices)
        return any(_pool_key(item) == key and _generation(item) > newest for item in self._slices)

    def _everywhere(self, key: tuple[str, str], generation: int) -> list[Obj]:
        return [item for item in self._slices if _pool_key(item) == key and _generation(item) == generation]

    def _devices(self, item: Obj) -> tuple[PoolDevice, ...]:
        version = _version(item)
        found = self._read.get(version)
        if found is None:
            found = tuple(self._read_device(item, device) for device in item["spec"].get("devices") or ())
            self._read[version] = found
        return found

    def _read_device(self, item: Obj, device: Obj) -> PoolDevice:
        spec = item["spec"]
        identity = DeviceId(spec["driver"], spec["pool"]["name"], device["name"])
        rules = (rule["spec"]["taint"] for rule in self._rules if _rule_selects(rule, identity))
        return PoolDevice(
            id=identity,
            attributes=device.get("attributes") or {},
            taints=(*(device.get("taints") or ()), *rules),
            cel=CelDevice(identity.driver, device),
            bound_to_node=bool(spec.get("nodeName")),
            node_selector=spec.get("nodeSelector"),
        )


def _reaches(spec: Obj, node: Obj) -> bool:
    if spec.get("nodeName"):
        return bool(spec["nodeName"] == node_name(node))
    if spec.get("allNodes"):
        return True
    return "nodeSelector" in spec and selector_matches(spec["nodeSelector"], node)


def _rule_selects(rule: Obj, device: DeviceId) -> bool:
    selector = rule["spec"].get("deviceSelector")
    if selector is None:
        return False
    wanted = ((selector.get("driver"), device.driver), (selector.get("pool"), device.pool))
    return all(want in (None, has) for want, has in (*wanted, (selector.get("device"), device.device)))


def _pool_key(item: Obj) -> tuple[str, str]:
    return item["spec"]["driver"], item["spec"]["pool"]["name"]


def _generation(item: Obj) -> int:
    return int(item["spec"]["pool"].get("generation", 0))


def _version(item: Obj) -> tuple[str, str]:
    return item["metadata"]["uid"], item["metadata"]["resourceVersion"]


def _versions(items: Iterable[Obj]) -> set[tuple[str, str]]:
    return {_version(item) for item in items}
