"""The search for devices: depth first over claims, requests, choices and devices; the first full solution wins.

Place in the chain: the decision calls it per node. There is no score: the published order of devices is the preference.
Source: kubernetes/dynamic-resource-allocation structured/internal/incubating (behaviour and texts).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.cel import CelError, CompileError
from gpuvitals_sim.scheduler.node_filter import tolerated
from gpuvitals_sim.scheduler.pools import DeviceId, Pool, PoolDevice
from gpuvitals_sim.scheduler.requests import MAX_RESULTS, Choice, ClaimRequests, Constraint

_REPELLING = ("NoSchedule", "NoExecute")


class AllocationError(Exception):
    """The attempt to schedule the pod ends on all nodes; the message goes into its condition."""


class NodeError(Exception):
    """This node can allocate nothing; the message is counted with those of the other nodes."""


@dataclass(frozen=True, slots=True)
class Picked:
    """One device for one choice of one claim."""

    choice: Choice
    rank: int
    device: PoolDevice


@dataclass(slots=True, kw_only=True)
class Search:
    """One search on one node. `in_use` are the devices that other claims hold."""

    pools: Sequence[Pool]
    classes: Mapping[str, Obj]
    in_use: frozenset[DeviceId]
    wanted: Sequence[ClaimRequests]
    _picked: list[list[Picked]] = field(default_factory=list)
    _taken: set[DeviceId] = field(default_factory=set)
    _all: dict[tuple[int, str], list[PoolDevice]] = field(default_factory=dict)

    def run(self) -> list[list[Picked]] | None:
        """The devices of each claim, or None if the node lacks them. Raises AllocationError and NodeError."""
        self._picked = [[] for _ in self.wanted]
        for number in range(len(self.wanted)):
            self._check_size(number)
        if self._claim(0):
            return self._picked
        if any(pool.invalid for pool in self.pools):
            raise NodeError("invalid resource pools were encountered")
        return None

    def _check_size(self, number: int) -> None:
        """Raises AllocationError if the claim needs more devices than one may hold."""
        claim, before = self.wanted[number], 0
        for request in claim.requests:
            least = min(self._size(number, choice) for choice in request.choices)
            if least > MAX_RESULTS - before:
                raise AllocationError(
                    f"claim {claim.key}, request {request.name}: adding {least} devices exceeds the claim limit of "
                    f"{MAX_RESULTS}, with {before} already accounted for"
                )
            before += least

    def _size(self, number: int, choice: Choice) -> int:
        """The number of devices of the choice. Raises AllocationError if it can't be tried at all."""
        where = f"claim {self.wanted[number].key}, request {choice.short_name}"
        if not choice.all_devices:
            return choice.count
        found = self._all[number, choice.name] = []
        for pool in self.pools:
            trouble = "being updated" if pool.incomplete else "invalid" if pool.invalid else ""
            if trouble:
                raise AllocationError(
                    f"{where}: asks for all devices, but resource pool {pool.id} is currently {trouble}"
                )
            found += [device for device in pool.devices if self._selectable(number, choice, device)]
        return len(found)

    def _claim(self, number: int) -> bool:
        if number >= len(self.wanted):
            return True
        return self._request(number, 0)

    def _request(self, number: int, index: int) -> bool:
        requests = self.wanted[number].requests
        if index >= len(requests):
            return self._claim(number + 1)
        return any(self._choice(number, index, rank) for rank in range(len(requests[index].choices)))

    def _choice(self, number: int, index: int, rank: int) -> bool:
        request = self.wanted[number].requests[index]
        choice = request.choices[rank]
        size = len(self._all[number, choice.name]) if choice.all_devices else choice.count
        if len(self._picked[number]) + size > MAX_RESULTS:
            return False
        if choice.all_devices:
            return size > 0 and self._every(number, index, rank)
        return self._some(number, index, rank, _Place(self._candidates(), choice.count))

    def _every(self, number: int, index: int, rank: int) -> bool:
        """Picks all devices that match the selectors; each must be usable."""
        choice = self.wanted[number].requests[index].choices[rank]
        depth = 0
        complete = True
        for device in self._all[number, choice.name]:
            if self._used(number, choice, device) or not self._pick(number, choice, rank, device):
                complete = False
                break
            depth += 1
        if complete and self._request(number, index + 1):
            return True
        for _ in range(depth):
            self._drop(number)
        return False

    def _some(self, number: int, index: int, rank: int, place: "_Place") -> bool:
        """Picks `place.missing` more devices from `place` on; combinations, not permutations."""
        if place.missing == 0:
            return self._request(number, index + 1)
        choice = self.wanted[number].requests[index].choices[rank]
        for position in range(place.start, len(place.devices)):
            device = place.devices[position]
            if self._used(number, choice, device) or not self._selectable(number, choice, device):
                continue
            if not self._pick(number, choice, rank, device):
                continue
            if self._some(number, index, rank, place.after(position)):
                return True
            self._drop(number)
        return False

    def _candidates(self) -> list[PoolDevice]:
        usable = (pool for pool in self.pools if not pool.incomplete and not pool.invalid)
        return [device for pool in usable for device in pool.devices]

    def _used(self, number: int, choice: Choice, device: PoolDevice) -> bool:
        if choice.admin_access:
            return any(picked.device.id == device.id for picked in self._picked[number])
        return device.id in self.in_use or device.id in self._taken

    def _selectable(self, number: int, choice: Choice, device: PoolDevice) -> bool:
        """Whether class and request selectors match. Raises AllocationError, since an error is no mismatch."""
        device_class = self.classes[choice.class_name]
        selectors = device_class["spec"].get("selectors") or ()
        of_class = [selector["cel"]["expression"] for selector in selectors]
        return _all_match(f"class {choice.class_name}", of_class, device) and _all_match(
            f"claim {self.wanted[number].key}", choice.selectors, device
        )

    def _pick(self, number: int, choice: Choice, rank: int, device: PoolDevice) -> bool:
        """Picks the device if its taints are tolerated and the constraints hold with it."""
        for taint in device.taints:
            if taint.get("effect") in _REPELLING and not tolerated(taint, choice.tolerations):
                return False
        for constraint in self.wanted[number].constraints:
            if constraint.covers(choice) and not self._holds(number, constraint, device):
                if choice.all_devices:
                    raise AllocationError(
                        f"claim {self.wanted[number].key}, request {choice.short_name}: cannot add device {device.id} "
                        "because a claim constraint would not be satisfied"
                    )
                return False
        self._picked[number].append(Picked(choice, rank, device))
        if not choice.admin_access:
            self._taken.add(device.id)
        return True

    def _drop(self, number: int) -> None:
        picked = self._picked[number].pop()
        if not picked.choice.admin_access:
            self._taken.discard(picked.device.id)

    def _holds(self, number: int, constraint: Constraint, device: PoolDevice) -> bool:
        value = _attribute(device, constraint.attribute)
        if value is None:
            return False
        others = [
            _attribute(picked.device, constraint.attribute)
            for picked in self._picked[number]
            if constraint.covers(picked.choice)
        ]
        return all((other == value) is constraint.same for other in others)


@dataclass(frozen=True, slots=True)
class _Place:
    """The position of the search for the devices of one request."""

    devices: list[PoolDevice]
    missing: int
    start: int = 0

    def after(self, position: int) -> "_Place":
        return _Place(self.devices, self.missing - 1, position + 1)


def _all_match(owner: str, selectors: Sequence[str], device: PoolDevice) -> bool:
    for number, selector in enumerate(selectors):
        try:
            if not device.matches(selector):
                return False
        except CompileError as error:
            raise AllocationError(f"{owner}: selector #{number}: CEL compile error: {error}") from error
        except CelError as error:
            raise AllocationError(
                f"{owner}: selector #{number} on device {device.id}: CEL runtime error: {error}"
            ) from error
    return True


def _attribute(device: PoolDevice, name: str) -> Obj | None:
    found: Obj | None = device.attributes.get(name)
    domain, _, identifier = name.partition("/")
    if found is None and domain == device.id.driver:
        found = device.attributes.get(identifier)
    return found
