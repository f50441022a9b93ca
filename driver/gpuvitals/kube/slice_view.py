"""Slices as a reader of the cluster sees them: one flat view a device. Pure."""

from dataclasses import dataclass

import msgspec

from gpuvitals.inventory.naming import Naming


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One published device. `isolated`: it carries a NoSchedule taint."""

    node: str
    device: str
    state: str
    score: int
    reason: str
    xid_errors: int
    nvlink: str
    isolated: bool
    product: str


class _Value(msgspec.Struct):
    string: str = ""
    number: int = msgspec.field(default=0, name="int")


class _Taint(msgspec.Struct):
    effect: str


class _Device(msgspec.Struct):
    name: str
    attributes: dict[str, _Value] = {}
    taints: list[_Taint] = []


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    devices: list[_Device] | None = None


class _Slice(msgspec.Struct):
    spec: _Spec


class _List(msgspec.Struct):
    items: list[_Slice]


_LIST = msgspec.json.Decoder(_List)


def device_views(body: bytes, naming: Naming) -> tuple[DeviceView, ...]:
    """The devices of a list of slices, by node, in published order. Raises msgspec.DecodeError."""
    slices = _LIST.decode(body).items
    return tuple(
        _view(entry.spec.node_name, device, naming)
        for entry in sorted(slices, key=lambda entry: entry.spec.node_name)
        for device in entry.spec.devices or []
    )


def _view(node: str, device: _Device, naming: Naming) -> DeviceView:
    def health(key: str) -> _Value:
        return device.attributes.get(f"{naming.attribute_domain}/{key}", _Value())

    return DeviceView(
        node=node,
        device=device.name,
        state=health("state").string or "Unknown",
        score=health("score").number,
        reason=health("reason").string,
        xid_errors=health("xidErrors").number,
        nvlink=health("nvlinkStatus").string,
        isolated=any(taint.effect == "NoSchedule" for taint in device.taints),
        product=device.attributes.get("productName", _Value()).string,
    )
