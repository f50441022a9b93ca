"""Flat views of published slices for people: one for each device and one for each node. Pure.

No flag has to name the driver: gpuvitals sets the attribute `<domain>/xidErrors` on every device that it publishes, and the
annotation `<group>/node-report` on the first slice of every pool.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from gpuvitals.decode_error import decoded, misfit

_MARK = "/xidErrors"
_REPORT = "/node-report"
_STATES = {"Unhealthy": 0, "Unknown": 1, "Degraded": 2, "Healthy": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One GPU or MIG instance. `in_service`: new claims can get it. `health` has the health attributes by short name."""

    driver: str
    node: str
    device: str
    uuid: str
    bus_id: str
    product: str
    in_service: bool
    parent_uuid: str = ""
    taints: tuple[str, ...] = ()
    health: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Healthy, Degraded, Unhealthy or Unknown."""
        return self.health.get("state", "Unknown")

    def severity(self) -> tuple[bool, int, str, str]:
        """Sort key of a table: devices out of service first, then the worst state, then by node and driver."""
        return self.in_service, _STATES.get(self.state, 0), self.node, self.driver


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node's report. `troubles` are sentences; empty for a node without problems."""

    driver: str
    node: str
    gpus: int
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedView:
    """The devices, withdrawn ones included, the worst first; the nodes with a node report; the API groups of the reports."""

    devices: tuple[DeviceView, ...]
    nodes: tuple[NodeView, ...]
    api_groups: frozenset[str]


class _Value(msgspec.Struct):
    string: str = ""
    number: int | None = msgspec.field(default=None, name="int")

    @property
    def text(self) -> str:
        return self.string if self.number is None else str(self.number)


class _Taint(msgspec.Struct):
    key: str
    effect: str
    value: str = ""


class _Device(msgspec.Struct):
    name: str
    attributes: dict[str, _Value] = {}
    taints: list[_Taint] = []


class _Spec(msgspec.Struct, rename="camel"):
    driver: str = ""
    node_name: str = ""
    devices: list[_Device] | None = None


class _Metadata(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Slice(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec

    @property
    def report_keys(self) -> list[str]:
        return [key for key in self.metadata.annotations or {} if key.endswith(_REPORT)]

    @property
    def report(self) -> str:
        return next(((self.metadata.annotations or {})[key] for key in self.report_keys), "")


class _List(msgspec.Struct):
    items: list[_Slice]


class _Withdrawn(msgspec.Struct, rename={"bus_id": "pciBusID", "product": "productName"}):
    device: str
    uuid: str = ""
    bus_id: str = ""
    product: str = ""


class _NotOffered(msgspec.Struct):
    device: str
    why: str = ""


class _Report(msgspec.Struct, rename="camel"):
    gpus: int = 0
    reasons: list[str] = []
    missing_gpus: list[str] = []
    other_driver: str = ""
    withdrawn: list[msgspec.Raw] = []
    withdrawn_omitted: int = 0
    left_out: list[_NotOffered] = []
    withheld: list[_NotOffered] = []


_LIST = msgspec.json.Decoder(_List)
_REPORT_TEXT = msgspec.json.Decoder(_Report)
_WITHDRAWN = msgspec.json.Decoder(_Withdrawn)
_ANY = msgspec.json.Decoder(dict[str, object])


def published_view(pages: Iterable[bytes]) -> PublishedView:
    """The view of a list of slices, given its pages. Raises msgspec.DecodeError."""
    devices: list[DeviceView] = []
    nodes: list[NodeView] = []
    groups: set[str] = set()
    for page in pages:
        for entry in decoded(_LIST, page).items:
            devices += _devices(entry)
            nodes += [_node(entry)] if entry.report else []
            groups |= {key.removesuffix(_REPORT) for key in entry.report_keys}
    return PublishedView(
        devices=tuple(sorted(devices, key=DeviceView.severity)),
        nodes=tuple(sorted(nodes, key=lambda view: (view.node, view.driver))),
        api_groups=frozenset(groups),
    )


def _devices(entry: _Slice) -> Iterator[DeviceView]:
    for device in entry.spec.devices or []:
        domain = next((key.removesuffix(_MARK) for key in device.attributes if key.endswith(_MARK)), None)
        if domain is not None:
            yield _published(entry.spec, device, domain)
    for raw in _report(entry).withdrawn:
        yield _withdrawn(entry.spec, raw)


def _published(spec: _Spec, device: _Device, domain: str) -> DeviceView:
    values = device.attributes
    return DeviceView(
        driver=spec.driver,
        node=spec.node_name,
        device=device.name,
        uuid=values.get("uuid", _Value()).text,
        bus_id=values.get("resource.kubernetes.io/pciBusID", _Value()).text,
        product=values.get("productName", _Value()).text,
        parent_uuid=values.get("parentUUID", _Value()).text,
        in_service=not any(taint.effect in ("NoSchedule", "NoExecute") for taint in device.taints),
        taints=tuple(f"{taint.key}={taint.value}:{taint.effect}" for taint in device.taints),
        health=_health(values, domain),
    )


def _health(values: Mapping[str, _Value], domain: str) -> dict[str, str]:
    prefix = f"{domain}/"
    return {key.removeprefix(prefix): value.text for key, value in values.items() if key.startswith(prefix)}


def _withdrawn(spec: _Spec, raw: msgspec.Raw) -> DeviceView:
    record = decoded(_WITHDRAWN, raw)
    health = {key: str(value) for key, value in decoded(_ANY, raw).items() if isinstance(value, str | int)}
    return DeviceView(
        driver=spec.driver,
        node=spec.node_name,
        device=record.device,
        uuid=record.uuid,
        bus_id=record.bus_id,
        product=record.product,
        in_service=False,
        health={"score": "0", **health},
    )


def _report(entry: _Slice) -> _Report:
    if not entry.report:
        return _Report()
    try:
        return decoded(_REPORT_TEXT, entry.report.encode())
    except msgspec.DecodeError as error:
        # An annotation that was edited by hand must not hide the other nodes.
        return _Report(reasons=[f"its node report cannot be read: {misfit(error, 'the report')}"])


def _node(entry: _Slice) -> NodeView:
    report = _report(entry)
    return NodeView(
        driver=entry.spec.driver,
        node=entry.spec.node_name,
        gpus=report.gpus,
        troubles=tuple(_problems(report)),
    )


def _problems(report: _Report) -> Iterable[str]:
    if report.other_driver:
        yield report.other_driver
    yield from (reason for reason in report.reasons if reason != "OtherDriver" or not report.other_driver)
    if report.missing_gpus:
        yield f"missing GPUs: {', '.join(report.missing_gpus)}"
    yield from (f"device {each.device} is not published: {each.why}" for each in report.left_out)
    yield from (f"device {each.device} is not offered: {each.why}" for each in report.withheld)
    if report.withdrawn_omitted:
        yield f"{report.withdrawn_omitted} more withdrawn devices than the report can hold"
