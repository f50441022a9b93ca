"""ResourceSlices on the wire: encodes our dataclasses as JSON, and decodes stored objects for the planner. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.device import AttributeValue, Device, Taint, Version
from gpuvitals.inventory.pool import Pool, PoolSlice
from gpuvitals.kube.slices.metadata import NodeOwner, foreign_metadata, merged_metadata, owner_uid
from gpuvitals.kube.slices.service_change import (
    UNSEEN,
    DeviceUse,
    ShownHealth,
    barrier,
    shown_health,
    withdrawn_unseen,
)

API_VERSION = "resource.k8s.io/v1"
PATH = "/apis/resource.k8s.io/v1/resourceslices"

_INDEX = re.compile(r"([0-9a-f]{5,8})-")
_MAX_GENERATE_NAME = 58

TaintKey = tuple[str, str, str, str]
"""(device, key, value, effect): an unchanged taint keeps its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The pool generation of a slice, and the number of slices in its pool."""

    generation: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedSlice:
    """A stored slice of our driver on our node. `index` is None for a name without one.

    `content` is compared by the planner: the spec without the placement and the times of taints, our annotation, and the
    owner's UID. `taints` are those that the server kept, also those without a time.
    `foreign` is the metadata without the managed fields and without our annotation and owner: a PUT replaces all of it.
    `terminating`: a delete waits for a foreign finalizer. `health` has the health attributes of each device. `unseen` are
    the devices that are withdrawn because they could not be read.
    """

    name: str
    uid: str
    resource_version: str
    pool: str
    index: int | None
    placement: Placement
    content: bytes
    devices: frozenset[str]
    taints: frozenset[TaintKey]
    taint_times: Mapping[TaintKey, str]
    foreign: Mapping[str, Any] = field(default_factory=dict)
    terminating: bool = False
    health: Mapping[str, ShownHealth] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()


def observed_slice(raw: bytes, annotation: str) -> ObservedSlice:
    """Decodes one stored slice. Raises msgspec.DecodeError (ValidationError) for any other object."""
    return _observed(decoded(_SLICE, raw), annotation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedList:
    """A list of stored slices. `skipped` has the error of each slice that could not be decoded."""

    slices: tuple[ObservedSlice, ...]
    resource_version: str
    skipped: tuple[str, ...]


def observed_slices(body: bytes, annotation: str) -> ObservedList:
    """Decodes a list of slices, and skips those that are none. Raises msgspec.DecodeError for a body that is no list."""
    listed = decoded(_LIST, body)
    slices: list[ObservedSlice] = []
    skipped: list[str] = []
    for raw in listed.items:
        try:
            slices.append(observed_slice(bytes(raw), annotation))
        except msgspec.DecodeError as error:
            skipped.append(str(error))
    return ObservedList(
        slices=tuple(slices), resource_version=listed.metadata.resource_version, skipped=tuple(skipped)
    )


def desired_content(entry: PoolSlice, pool: Pool, owner: NodeOwner) -> bytes:
    """The `ObservedSlice.content` that `entry` will have once it is stored."""
    note = next((value for _, value in entry.annotations), "")
    spec = _spec(pool, tuple(_device(device, {}) for device in entry.devices))
    return _content(spec, note, owner.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The parts of a stored slice that a write must preserve: foreign metadata, and the times of taints."""

    foreign: Mapping[str, Any]
    times: Mapping[TaintKey, str]


def slice_body(
    entry: PoolSlice, pool: Pool, owner: NodeOwner, placement: Placement, stored: Stored
) -> dict[str, Any]:
    """The object to write, without a name. A known taint carries its time, since the server would set a new one."""
    place = {
        "name": pool.node,
        "generation": placement.generation,
        "resourceSliceCount": placement.count,
    }
    devices = tuple(_device(device, stored.times) for device in entry.devices)
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceSlice",
        "metadata": merged_metadata(stored.foreign, dict(entry.annotations), owner),
        "spec": {**_spec(pool, devices), "pool": place},
    }


def pool_taints(pool: Pool) -> dict[str, frozenset[TaintKey]]:
    """The taints of every device of the pool, by device name."""
    return {
        device.name: frozenset(_taint_key(device, taint) for taint in device.taints)
        for entry in pool.slices
        for device in entry.devices
    }


def pool_uses(pool: Pool) -> dict[str, DeviceUse]:
    """The use of every device of the pool, including those that are withdrawn because they could not be read."""
    notes = (note for entry in pool.slices for _, note in entry.annotations)
    unseen = {name: UNSEEN for note in notes for name in withdrawn_unseen(note)}
    return unseen | {
        device.name: DeviceUse(
            frozenset().union(*(barrier(taint.key, taint.effect.value) for taint in device.taints)),
            shown_health(_untainted(device)["attributes"]),
        )
        for entry in pool.slices
        for device in entry.devices
    }


def observed_uses(slices: Iterable[ObservedSlice]) -> dict[str, DeviceUse]:
    """The use of every stored device, including those that are withdrawn because they could not be read."""
    listed = tuple(slices)
    unseen = {name: UNSEEN for entry in listed for name in entry.unseen}
    return unseen | {
        name: DeviceUse(
            frozenset().union(
                *(barrier(key, effect) for device, key, _, effect in entry.taints if device == name)
            ),
            entry.health.get(name, ShownHealth()),
        )
        for entry in listed
        for name in entry.devices
    }


def generate_name(index: int, pool: Pool) -> str:
    """`00000-<driver>-<node>-`, cut so that the server's suffix still fits a DNS label; the index is never cut."""
    text = f"{index:05x}-{pool.driver}-{pool.node}"
    return text[: _MAX_GENERATE_NAME - 1].rstrip("-.") + "-"


def encode(body: Mapping[str, Any]) -> bytes:
    """Stable bytes: sorted keys, no spaces; equal objects are equal bytes."""
    return msgspec.json.encode(body, order="deterministic")


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}
    owner_references: list[dict[str, Any]] = []


class _PoolRef(msgspec.Struct, rename="camel"):
    name: str
    generation: int
    resource_slice_count: int


class _Taint(msgspec.Struct, rename="camel"):
    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class _Device(msgspec.Struct):
    name: str
    attributes: dict[str, Any] = {}
    taints: list[_Taint] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    pool: _PoolRef
    node_name: str = ""
    devices: list[_Device] | None = None


class _Slice(msgspec.Struct):
    metadata: msgspec.Raw
    spec: msgspec.Raw


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _SliceList(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] = []


_SLICE = msgspec.json.Decoder(_Slice)
_LIST = msgspec.json.Decoder(_SliceList)
_SPEC = msgspec.json.Decoder(_Spec)
_META = msgspec.json.Decoder(_Meta)
_PLAIN = msgspec.json.Decoder(dict[str, Any])


def _observed(stored: _Slice, annotation: str) -> ObservedSlice:
    meta, metadata = decoded(_META, stored.metadata), decoded(_PLAIN, stored.metadata)
    spec, plain = decoded(_SPEC, stored.spec), decoded(_PLAIN, stored.spec)
    match = _INDEX.match(meta.name)
    taints = {
        (device.name, taint.key, taint.value, taint.effect): taint.time_added
        for device in spec.devices or []
        for taint in device.taints or []
    }
    owner = owner_uid(meta.owner_references, spec.node_name)
    note = meta.annotations.get(annotation, "")
    return ObservedSlice(
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        pool=spec.pool.name,
        index=int(match[1], 16) if match is not None else None,
        placement=Placement(generation=spec.pool.generation, count=spec.pool.resource_slice_count),
        content=_content(plain, note, owner),
        devices=frozenset(device.name for device in spec.devices or []),
        taints=frozenset(taints),
        taint_times={key: time for key, time in taints.items() if time is not None},
        foreign=foreign_metadata(metadata, annotation, spec.node_name),
        terminating=meta.deletion_timestamp is not None,
        health={device.name: shown_health(device.attributes) for device in spec.devices or []},
        unseen=withdrawn_unseen(note),
    )


def _content(spec: Mapping[str, Any], note: str, owner_uid: str) -> bytes:
    rest = {key: value for key, value in spec.items() if key not in ("pool", "devices") and value is not None}
    devices = [_without_times(device) for device in spec.get("devices") or []]
    return msgspec.json.encode([rest, devices, note, owner_uid], order="deterministic")


def _without_times(device: Mapping[str, Any]) -> dict[str, Any]:
    taints = [
        {key: value for key, value in taint.items() if key != "timeAdded"}
        for taint in device.get("taints") or []
    ]
    return {**device, "taints": taints}


def _spec(pool: Pool, devices: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    return {"driver": pool.driver, "nodeName": pool.node, "devices": devices}


def _device(device: Device, times: Mapping[TaintKey, str]) -> Mapping[str, Any]:
    body = _untainted(device)
    if not device.taints:
        return body
    return {**body, "taints": [_taint(device, taint, times) for taint in device.taints]}


@lru_cache(maxsize=1024)
def _untainted(device: Device) -> Mapping[str, Any]:
    """Cached: two consecutive pools share nearly all devices."""
    return {
        "name": device.name,
        "attributes": {key: _value(value) for key, value in device.attributes},
        "capacity": {key: {"value": value} for key, value in device.capacity},
    }


def _taint(device: Device, taint: Taint, times: Mapping[TaintKey, str]) -> dict[str, str]:
    body = {"key": taint.key, "value": taint.value, "effect": taint.effect.value}
    stood = times.get(_taint_key(device, taint))
    return body if stood is None else {**body, "timeAdded": stood}


def _taint_key(device: Device, taint: Taint) -> TaintKey:
    return (device.name, taint.key, taint.value, taint.effect.value)


def _value(value: AttributeValue) -> dict[str, Any]:
    match value:
        case bool():
            return {"bool": value}
        case int():
            return {"int": value}
        case Version():
            return {"version": value.text}
        case str():
            return {"string": value}
