"""Reads the agent's state file piece by piece: one piece that can't be read costs itself and nothing else. Pure.

    {"schema": 1, "node": {"boot_id": ..., "saved": ..., "gpus": [<record>...], ...}, "unread": [<record>...]}

A newer version may add words and fields. Each record of a GPU is read as far as it goes. Of the rest the published
verdict is used, and the record itself is kept under `unread`, so that a version that can read it finds it again.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from gpuvitals.decode_error import decoded, misfit
from gpuvitals.health.evaluate import advance
from gpuvitals.health.policy import Policy
from gpuvitals.health.remembered import ShownVerdict
from gpuvitals.health.state import GpuState
from gpuvitals.health.verdict import verdict
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import NO_REASON, HealthState, Verdict
from gpuvitals.model.ids import BootId, GpuUuid
from gpuvitals.model.snapshot import NodeFacts

SCHEMA = 1
MAX_UNREAD = 128
"""Records kept for a version that can read them."""
_LARGEST = 2**53
_FIRST_YEAR, _LAST_YEAR = 1970, 9000


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRecord:
    """One GPU as the agent knows it. `published` is the verdict that the cluster was last shown, at `published_at`.

    `spared` is why it is in service although it should be out, empty where it is as it should be.
    `gone`: a MIG instance that the driver does not list any more, while it lists its GPU. `retired`: another GPU was
    enumerated in its slot, or in its parent's. `slot_taken` is when it took its slot from another GPU.
    """

    gpu: Gpu
    state: GpuState
    published: Verdict | None
    published_at: float
    state_since: datetime
    isolated: bool
    spared: str = ""
    gone: bool = False
    retired: bool = False
    slot_taken: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """Everything the agent remembers. `facts` are those that the cluster was last shown."""

    boot_id: BootId
    driver_load: str
    saved: Moment
    revision: int
    gpus: tuple[GpuRecord, ...]
    kmsg_sequence: int | None = None
    facts: NodeFacts = field(default_factory=NodeFacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one state file tells. `node` is None where not even the boot and the time of the save can be read.

    `shown` are verdicts of GPUs whose records could not be read in full; `unread` are those records as JSON, and
    `trouble` says in one line what was wrong, empty where everything was read.
    """

    schema: int = SCHEMA
    node: NodeRecord | None = None
    shown: tuple[ShownVerdict, ...] = ()
    unread: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    schema: int
    node: msgspec.Raw
    unread: tuple[str, ...] = ()


_HEAD = msgspec.json.Decoder(_Head)
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTHING = msgspec.Raw(b"null")
_ANY = msgspec.json.Decoder()
_NODE = msgspec.json.Decoder(NodeRecord)


def encoded(node: NodeRecord, unread: tuple[str, ...]) -> bytes:
    """The memory as JSON."""
    head = _Head(schema=SCHEMA, node=msgspec.Raw(msgspec.json.encode(node)), unread=unread)
    return msgspec.json.encode(head)


def contents(payload: bytes, origin: str) -> Contents:
    """Everything that can be read of `payload`. `origin` names the file. Raises nothing, whatever the payload is."""
    trouble = ""
    try:
        head = decoded(_HEAD, payload)
    except msgspec.DecodeError as error:
        trouble = f"{origin}: {misfit(error, 'the file')}"
        found = _head_of(payload)
        if found is None:
            return Contents(trouble=trouble)
        head = found
    trouble = trouble if head.schema <= SCHEMA else _newer(origin, head.schema)
    try:
        node = decoded(_NODE, head.node)
        if (
            not head.unread
            and _is_sound(node)
            and all(_can_be_judged(each, node.saved) for each in node.gpus)
        ):
            return Contents(schema=head.schema, node=node, trouble=trouble)
    except msgspec.DecodeError as error:
        trouble = trouble or f"{origin}: {error}"
    return _piecewise(head, trouble, origin)


def _head_of(payload: bytes) -> _Head | None:
    """The head of a file in another shape than this version writes, None where the payload is no object.

    A schema that is no number was written by another version, so it counts as a newer one: the file is not overwritten.
    """
    try:
        parts = decoded(_PARTS, payload)
        schema = decoded(_ANY, parts.get("schema", _NOTHING))
        unread = decoded(_ANY, parts.get("unread", _NOTHING))
    except msgspec.DecodeError:
        return None
    records = unread if isinstance(unread, list) else []
    return _Head(
        schema=schema if type(schema) is int else SCHEMA + 1,
        node=parts.get("node", _NOTHING),
        unread=tuple(each if isinstance(each, str) else _as_text(each) for each in records),
    )


def _as_text(record: object) -> str:
    return msgspec.json.encode(record).decode()


def _newer(origin: str, schema: int) -> str:
    return f"{origin}: written with schema {schema} by a newer version; this agent knows schema {SCHEMA}"


def _piecewise(head: _Head, trouble: str, origin: str) -> Contents:
    try:
        raw = decoded(_ANY, head.node)
    except msgspec.DecodeError as error:
        return Contents(schema=head.schema, unread=head.unread, trouble=f"{origin}: {error}")
    if not isinstance(raw, dict):
        trouble = trouble or f"{origin}: node: expected an object"
        return Contents(schema=head.schema, unread=head.unread, trouble=trouble)
    listed = raw.get("gpus")
    records = _Records(_text(raw.get("boot_id")), origin)
    found = [records.read(each) for each in _each(listed)]
    # What an earlier version could not read: its own record of the same GPU counts, but for a GPU that is still out.
    for text in head.unread:
        records.read_again(text, found)
    gpus = tuple(entry for entry in found if entry is not None)
    node, lost = _lenient({**raw, "gpus": []}, NodeRecord)
    if not isinstance(node, NodeRecord):
        shown = (*records.shown, *(_shown_entry(entry, records.boot, origin) for entry in gpus))
        return Contents(
            schema=head.schema,
            shown=shown,
            unread=tuple(records.unread),
            trouble=trouble or f"{origin}: node: {', '.join(lost)} can't be read",
        )
    if records.unread or lost:
        detail = f"{len(records.unread)} of its GPU records can't be read in full"
        trouble = trouble or f"{origin}: {detail if records.unread else ', '.join(lost)}"
    return Contents(
        schema=head.schema,
        node=replace(node, gpus=gpus),
        shown=tuple(records.shown),
        unread=tuple(records.unread)[:MAX_UNREAD],
        trouble=trouble,
    )


def _each(listed: object) -> list[object]:
    """The records of a list, or of an object whose keys name them."""
    if isinstance(listed, dict):
        return list(listed.values())
    return listed if isinstance(listed, list) else []


class _Records:
    """Reads GPU records, and collects what could not be read of them."""

    def __init__(self, boot: str, origin: str) -> None:
        self.boot = boot
        self.shown: list[ShownVerdict] = []
        self.unread: list[str] = []
        self._origin = origin

    def read(self, raw: object) -> GpuRecord | None:
        """The readable part of the record, None where the GPU itself can't be identified."""
        entry, lost = _lenient(raw, GpuRecord)
        usable = isinstance(entry, GpuRecord) and _can_be_judged(entry, None)
        if usable and not lost:
            assert isinstance(entry, GpuRecord)
            return entry
        self.unread.append(_as_text(raw))
        self.shown += _shown(raw, self.boot, self._origin)
        return entry if usable and isinstance(entry, GpuRecord) else None

    def read_again(self, text: str, found: list[GpuRecord | None]) -> None:
        """Reads a record that an earlier version could not: its faults still stand where the GPU is still out."""
        try:
            raw = decoded(_ANY, text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError):
            return
        uuid = _text(_object(_object(raw).get("gpu")).get("uuid"))
        at = next((at for at, each in enumerate(found) if each is not None and each.gpu.uuid == uuid), None)
        mine = None if at is None else found[at]
        if mine is not None and mine.published is not None and mine.published.state is HealthState.HEALTHY:
            return
        entry, lost = _lenient(raw, GpuRecord)
        if not isinstance(entry, GpuRecord) or lost or not _can_be_judged(entry, None):
            self.unread.append(text)
            self.shown += [] if mine is not None else _shown(raw, self.boot, self._origin)
        elif at is None or mine is None:
            found.append(entry)
        elif mine.isolated:
            found[at] = replace(mine, state=_joined(mine.state, entry.state))


def _joined(state: GpuState, richer: GpuState) -> GpuState:
    """`state` with the faults that only the record of the newer version names, in place of the ones that stood for them."""
    reasons = {fault.rule.reason for fault in state.faults}
    added = tuple(fault for fault in richer.faults if fault.rule.reason not in reasons)
    kept = tuple(fault for fault in state.faults if not (added and fault.rule.reason == "EarlierFault"))
    return replace(state, faults=tuple(sorted((*kept, *added), key=lambda fault: fault.rule.reason)))


def _shown(raw: object, boot: str, origin: str) -> list[ShownVerdict]:
    """The published verdict of a record, and the faults in it that can be named; none for a record without a UUID."""
    record = _object(raw)
    uuid = _text(_object(record.get("gpu")).get("uuid"))
    if not uuid:
        return []
    published = _object(record.get("published"))
    isolated = record.get("isolated") is True
    base = ShownVerdict(
        uuid=GpuUuid(uuid),
        state=_text(published.get("state")) or ("Unhealthy" if isolated else ""),
        reason=_text(published.get("reason")),
        isolated=isolated,
        origin=origin,
        boot_id=boot,
    )
    faults = _object(record.get("state")).get("faults")
    named = [_object(each) for each in (faults if isinstance(faults, list) else [])]
    return [base, *(_shown_fault(base, fault) for fault in named)]


def _shown_fault(base: ShownVerdict, fault: Mapping[str, object]) -> ShownVerdict:
    rule = _object(fault.get("rule"))
    is_definitive = rule.get("fault_class") == "A"
    state = "Unhealthy" if is_definitive else "Degraded"
    return replace(base, state=state, reason=_text(rule.get("reason")), isolated=is_definitive)


def _shown_entry(entry: GpuRecord, boot: str, origin: str) -> ShownVerdict:
    published = entry.published
    return ShownVerdict(
        uuid=entry.gpu.uuid,
        state="Unhealthy" if published is None else published.state.value,
        reason=NO_REASON if published is None else published.reason,
        isolated=entry.isolated,
        origin=origin,
        boot_id=boot,
    )


def _can_be_judged(entry: GpuRecord, saved: Moment | None) -> bool:
    """Whether the fold can go on from this state: a state that it can't judge must not end the agent."""
    now = saved or Moment(at=entry.published_at, time=entry.state_since)
    try:
        verdict(advance(entry.state, now.at, Policy()), now, Policy())
    except Exception:  # noqa: BLE001 - whatever it was, the record is kept as unread and its verdict is used instead
        return False
    return True


def _lenient(raw: object, wanted: Any) -> tuple[Any, list[str]]:
    """`raw` as `wanted`, and the fields that were lost. A lost field gets its default; None where it has none."""
    try:
        value = msgspec.convert(raw, wanted)
    except (msgspec.ValidationError, RecursionError):
        value = None
    else:
        if _is_sound(value):
            return value, []
    if not (is_dataclass(wanted) and isinstance(wanted, type) and isinstance(raw, dict)):
        return None, [getattr(wanted, "__name__", str(wanted))]
    hints, values, lost = _hints(wanted), {}, []
    for entry in fields(wanted):
        if entry.name not in raw:
            lost += [entry.name] if _is_required(entry) else []
            continue
        part, missing = _part(raw[entry.name], hints[entry.name])
        lost += [f"{entry.name}.{name}" for name in missing]
        if not missing or part is not None or type(None) in get_args(hints[entry.name]):
            values[entry.name] = part
    if any(_is_required(entry) and entry.name not in values for entry in fields(wanted)):
        return None, lost
    try:
        return wanted(**values), lost
    except ValueError:
        return None, [wanted.__name__]


def _part(raw: object, wanted: Any) -> tuple[Any, list[str]]:
    arguments = get_args(wanted)
    if get_origin(wanted) is tuple and arguments[-1:] == (Ellipsis,) and isinstance(raw, list):
        parts = [_lenient(each, arguments[0]) for each in raw]
        kept = tuple(part for part, missing in parts if not missing)
        return kept, [f"[{index}]" for index, (_, missing) in enumerate(parts) if missing]
    if is_dataclass(wanted):
        return _lenient(raw, wanted)
    return _lenient(raw, wanted)


@cache
def _hints(wanted: type) -> dict[str, Any]:
    return get_type_hints(wanted)


def _is_required(entry: "Field[Any]") -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _is_sound(value: object) -> bool:
    """Whether every time in `value` has a zone and every number a size that can be reckoned with."""
    match value:
        case bool() | str() | None:
            return True
        case int():
            return abs(value) < _LARGEST
        case float():
            return math.isfinite(value) and abs(value) < _LARGEST
        case datetime():
            return _is_sound_time(value)
        case tuple() | frozenset():
            return all(map(_is_sound, value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return all(_is_sound(getattr(value, entry.name)) for entry in fields(value))
        case _:
            return True


def _is_sound_time(value: datetime) -> bool:
    if value.tzinfo is None:
        return False
    try:
        return _FIRST_YEAR <= value.astimezone(UTC).year <= _LAST_YEAR
    except OverflowError:
        return False


def _object(raw: object) -> Mapping[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else ""
