"""Watches the devices that other drivers publish on this node, and combines them with the Node's allocatable resources.

Both are watched, so an idle node makes no requests. The state is unknown until both are known.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.other_drivers import OtherDriverDevice, OtherDrivers
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.reflector import Reflector
from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks, Selection
from gpuvitals.kube.retry import WATCH_LATER
from gpuvitals.kube.slices.codec import PATH
from gpuvitals.kube.transport import Transport
from gpuvitals.observability.metrics import NodeMetrics

_UUID_KEYS = frozenset({"uuid", "parentUUID"})
_BUS_KEYS = frozenset({"pciBusID", "pcieBusID", "pciAddress"})
_RESYNC_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDriverSettings:
    """The node, and the name of our own driver, whose slices are left out."""

    driver: str
    node: str


class OtherDriverWatch:
    """Watches other drivers' slices. `changed` is called after each difference, on the watch's thread or on that of
    `set_allocatable`. Thread safe.
    """

    def __init__(
        self,
        settings: OtherDriverSettings,
        transport: Transport,
        metrics: NodeMetrics,
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._devices: dict[ObjectKey, tuple[OtherDriverDevice, ...]] = {}
        self._resources: tuple[tuple[str, str], ...] | None = None
        self._is_listed = False
        self._current: OtherDrivers | None = None
        selector = f"spec.nodeName={settings.node},spec.driver!={settings.driver}"
        selection = Selection(
            path=PATH,
            query=(("fieldSelector", selector),),
            policy=WATCH_LATER,
            resync_seconds=_RESYNC_SECONDS,
        )
        self._reflector = Reflector(selection, transport, metrics, _SliceHooks(self))

    @property
    def current(self) -> OtherDrivers | None:
        """The other drivers' devices and the allocatable resources; None until both are known."""
        return self._current

    def start(self) -> None:
        """Starts to watch."""
        self._reflector.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; waits for a call in progress up to the deadline."""
        self._reflector.stop(deadline_seconds)

    def set_allocatable(self, resources: tuple[tuple[str, str], ...]) -> None:
        """Records the Node's allocatable resources, sorted by name."""
        with self._lock:
            self._resources = resources
        self._compare()

    def set_listed(self) -> None:
        """Records that every slice was reported."""
        with self._lock:
            self._is_listed = True
        self._compare()

    def set_devices(self, key: ObjectKey, raw: bytes | None) -> None:
        """Records the devices of one slice. Raises msgspec.DecodeError for a slice that cannot be decoded: it has none."""
        with self._lock:
            self._devices.pop(key, None)
            if raw is not None:
                self._devices[key] = tuple(other_driver_devices(raw))
        self._compare()

    def _compare(self) -> None:
        with self._lock:
            if not self._is_listed or self._resources is None:
                return
            devices = tuple(device for key in sorted(self._devices) for device in self._devices[key])
            state = OtherDrivers(devices=devices, resources=self._resources)
            if state == self._current:
                return
            self._current = state
        self._changed()


class _SliceHooks(ReflectorHooks):
    def __init__(self, watch: OtherDriverWatch) -> None:
        self._watch = watch

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        self._watch.set_devices(key, raw)

    def is_urgent(self) -> bool:
        return True

    def listed(self, error: ApiError | None) -> None:
        if error is None:
            self._watch.set_listed()


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


def other_driver_devices(raw: bytes) -> Iterator[OtherDriverDevice]:
    """The devices of a slice that have a UUID or a PCI bus ID. Raises msgspec.DecodeError."""
    spec = decoded(_SLICE, raw).spec
    for device in [decoded(_DEVICE, each) for each in spec.devices or []]:
        uuids = frozenset(_strings(device, _UUID_KEYS))
        bus_ids = frozenset(_strings(device, _BUS_KEYS))
        if uuids or bus_ids:
            yield OtherDriverDevice(driver=spec.driver, device=device.name, uuids=uuids, bus_ids=bus_ids)


def _strings(device: _Device, names: frozenset[str]) -> Iterator[str]:
    """The string values of the attributes of these names, in any domain."""
    for key, value in device.attributes.items():
        if (
            key.rpartition("/")[2] in names
            and isinstance(value, dict)
            and isinstance(value.get("string"), str)
        ):
            yield value["string"]
