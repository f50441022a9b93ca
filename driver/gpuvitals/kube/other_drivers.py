"""Who else is on this node: slices of other drivers, and what the Node has allocatable.

Both are watched, so an idle node asks for nothing. Until both are known, nothing is known.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.other_drivers import OtherDriverDevice, OtherDrivers
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.reflector import ObjectKey, Reflector, ReflectorHooks, Selection
from gpuvitals.kube.retry import WATCH_LATER
from gpuvitals.kube.slices.codec import PATH
from gpuvitals.kube.transport import Transport
from gpuvitals.observability.metrics import NodeMetrics

_UUID_KEYS = frozenset({"uuid", "parentUUID"})
_BUS_KEYS = frozenset({"pciBusID", "pcieBusID", "pciAddress"})
_RESYNC_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourSettings:
    """Whose node, and which driver is our own."""

    driver: str
    node: str


class NeighbourWatch:
    """One thread that watches. `changed` is called after each difference, on it or on the thread of `node_has`."""

    def __init__(
        self,
        settings: NeighbourSettings,
        transport: Transport,
        metrics: NodeMetrics,
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._devices: dict[ObjectKey, tuple[OtherDriverDevice, ...]] = {}
        self._resources: tuple[tuple[str, str], ...] | None = None
        self._is_listed = False
        self._seen: OtherDrivers | None = None
        selector = f"spec.nodeName={settings.node},spec.driver!={settings.driver}"
        selection = Selection(
            path=PATH,
            query=(("fieldSelector", selector),),
            policy=WATCH_LATER,
            resync_seconds=_RESYNC_SECONDS,
        )
        turns = ReflectorHooks(urgent=lambda: True, listed=self._listed)
        self._reflector = Reflector(selection, transport, self._watched, metrics, turns)

    @property
    def seen(self) -> OtherDrivers | None:
        """Who is there; None before both slices and Node are known."""
        return self._seen

    def start(self) -> None:
        """Starts to watch."""
        self._reflector.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the watch; waits for a call at hand up to the deadline."""
        self._reflector.stop(deadline_seconds)

    def node_has(self, resources: tuple[tuple[str, str], ...]) -> None:
        """Takes what the Node has allocatable, sorted by resource."""
        with self._lock:
            self._resources = resources
        self._compare()

    def _watched(self, key: ObjectKey, raw: bytes | None) -> None:
        """One that can't be decoded names nobody. Raises msgspec.DecodeError for it, so that it is counted."""
        with self._lock:
            self._devices.pop(key, None)
            if raw is not None:
                self._devices[key] = tuple(neighbour_devices(raw))
        self._compare()

    def _listed(self, error: ApiError | None) -> None:
        if error is None:
            with self._lock:
                self._is_listed = True
            self._compare()

    def _compare(self) -> None:
        with self._lock:
            if not self._is_listed or self._resources is None:
                return
            devices = tuple(device for key in sorted(self._devices) for device in self._devices[key])
            seen = OtherDrivers(devices=devices, resources=self._resources)
            if seen == self._seen:
                return
            self._seen = seen
        self._changed()


class _Device(msgspec.Struct):
    name: str = ""
    attributes: dict[str, Any] = {}


class _Spec(msgspec.Struct):
    driver: str
    devices: list[msgspec.Raw] | None = None


class _Slice(msgspec.Struct):
    spec: _Spec


_SLICE = msgspec.json.Decoder(_Slice)
_DEVICE = msgspec.json.Decoder(_Device)


def neighbour_devices(raw: bytes) -> Iterator[OtherDriverDevice]:
    """The devices of a slice that name a UUID or a bus id. Raises msgspec.DecodeError."""
    spec = decoded(_SLICE, raw).spec
    for device in [decoded(_DEVICE, each) for each in spec.devices or []]:
        uuids = frozenset(_strings(device, _UUID_KEYS))
        bus_ids = frozenset(_strings(device, _BUS_KEYS))
        if uuids or bus_ids:
            yield OtherDriverDevice(driver=spec.driver, device=device.name, uuids=uuids, bus_ids=bus_ids)


def _strings(device: _Device, names: frozenset[str]) -> Iterator[str]:
    """The string values of attributes of these names, in whatever domain."""
    for key, value in device.attributes.items():
        if (
            key.rpartition("/")[2] in names
            and isinstance(value, dict)
            and isinstance(value.get("string"), str)
        ):
            yield value["string"]
