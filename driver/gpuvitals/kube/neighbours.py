"""Looks, once a minute, at who else is on this node: slices of other drivers, and what the Node has allocatable.

Level-triggered: each look replaces the one before. A look that fails leaves the last one standing, and until the first
one has succeeded nothing is known.
"""

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from gpuvitals.decoding import decoded
from gpuvitals.inventory.neighbours import NeighbourDevice, Neighbours
from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import ApiError, Retryable
from gpuvitals.kube.looking import Looker, Looking
from gpuvitals.kube.nodes import allocatable
from gpuvitals.kube.slice_codec import PATH
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_UUID_KEYS = frozenset({"uuid", "parentUUID"})
_BUS_KEYS = frozenset({"pciBusID", "pcieBusID", "pciAddress"})
_JITTER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourSettings:
    """Whose node, which driver is our own, and how often to look."""

    driver: str
    node: str
    seconds: float = 60.0


class NeighbourWatch:
    """One thread that looks. `changed` is called on it after a look that differs from the one before."""

    def __init__(
        self,
        settings: NeighbourSettings,
        transport: Transport,
        metrics: NodeMetrics,
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._changed = changed
        self._seen: Neighbours | None = None
        self._blocked = ""
        looking = Looking(
            name="neighbours",
            look=self._look,
            is_urgent=lambda: self._seen is None,
            failed=self._failed,
            # Apart from others: two drivers that make way for each other must not do so in step for ever.
            pause_seconds=lambda: settings.seconds * random.uniform(1 - _JITTER, 1 + _JITTER),
        )
        self._looker = Looker(looking, metrics)

    @property
    def seen(self) -> Neighbours | None:
        """What the last look found; None before the first."""
        return self._seen

    def start(self) -> None:
        """Looks at once, and then again and again."""
        self._looker.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the looking; waits for a look at hand up to the deadline."""
        self._looker.stop(deadline_seconds)

    def _look(self) -> None:
        selector = f"spec.nodeName={self._settings.node},spec.driver!={self._settings.driver}"
        answer = self._transport.request(Call(method="GET", path=PATH, query=(("fieldSelector", selector),)))
        seen = Neighbours(
            devices=tuple(neighbour_devices(answer)),
            resources=allocatable(self._transport, self._settings.node),
        )
        self._blocked = ""
        if seen != self._seen:
            self._seen = seen
            self._changed()

    def _failed(self, error: ApiError, seconds: float) -> None:
        if str(error) != self._blocked:
            self._blocked = str(error)
            log.warning("neighbours unknown", extra=keys(error=str(error), again_in=round(seconds, 1)))


class _Device(msgspec.Struct):
    name: str = ""
    attributes: dict[str, Any] = {}


class _Spec(msgspec.Struct):
    driver: str
    devices: list[msgspec.Raw] | None = None


class _Slice(msgspec.Struct):
    spec: _Spec


class _List(msgspec.Struct):
    items: list[msgspec.Raw] = []


_LIST = msgspec.json.Decoder(_List)
_SLICE = msgspec.json.Decoder(_Slice)
_DEVICE = msgspec.json.Decoder(_Device)


def neighbour_devices(body: bytes) -> Iterator[NeighbourDevice]:
    """The devices of a list of slices that name a UUID or a bus id; what can't be read names none. Raises Retryable."""
    try:
        items = decoded(_LIST, body).items
    except msgspec.DecodeError as error:
        raise Retryable(f"list of other drivers' slices: {error}") from error
    for raw in items:
        try:
            spec = decoded(_SLICE, raw).spec
            devices = [decoded(_DEVICE, each) for each in spec.devices or []]
        except msgspec.DecodeError as error:
            log.warning("slice of another driver skipped", extra=keys(error=str(error)))
            continue
        for device in devices:
            uuids = frozenset(_strings(device, _UUID_KEYS))
            bus_ids = frozenset(_strings(device, _BUS_KEYS))
            if uuids or bus_ids:
                yield NeighbourDevice(driver=spec.driver, device=device.name, uuids=uuids, bus_ids=bus_ids)


def _strings(device: _Device, names: frozenset[str]) -> Iterator[str]:
    """The string values of attributes of these names, in whatever domain."""
    for key, value in device.attributes.items():
        if (
            key.rpartition("/")[2] in names
            and isinstance(value, dict)
            and isinstance(value.get("string"), str)
        ):
            yield value["string"]
