"""The document of the agent's state file and of each journal record, read piece by piece. Pure.

    {"schema": 1, "node": {"boot_id": ..., "saved": ..., "gpus": [<record>...], ...}, "unread": [<record>...]}

A journal record has the same shape and lists only the GPUs that changed. A newer version may add values and fields. A
GPU record that this version cannot read in full costs itself and no other: its published verdict stands in for it, and
the record itself is kept under `unread` for a version that can read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from gpuvitals.decode_error import decoded, misfit
from gpuvitals.health.evaluate import advance
from gpuvitals.health.policy import Policy
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.health.state import GpuState
from gpuvitals.health.verdict import verdict
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import NO_REASON, HealthState, Verdict
from gpuvitals.model.ids import BootId, GpuUuid
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.lenient_decode import is_sound, lenient

SCHEMA = 1
MAX_UNREAD = 128
"""Most records that are kept for a version that can read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRecord:
    """One GPU in the agent's memory. `published` is its newest published verdict, `published_at` the time of that.

    `isolated`: it is out of service. `spared`: the reason for which its policy keeps it in service despite its verdict,
    else empty. `gone`: a MIG instance that the driver no longer lists, although it lists the GPU. `retired`: another GPU
    was enumerated in its slot, or in its parent's. `slot_taken`: the time at which it took the slot of another GPU.
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
    """The agent's memory. `facts` are the published ones. `sequence` numbers the saves of one state directory."""

    boot_id: BootId
    driver_load: str
    saved: Moment
    revision: int
    gpus: tuple[GpuRecord, ...]
    kmsg_sequence: int | None = None
    facts: NodeFacts = field(default_factory=NodeFacts)
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The readable contents of one document. `node` is None if the boot or the time of the save cannot be read.

    `verdicts`: published verdicts of GPUs whose records could not be read in full. `unread`: those records as JSON.
    `trouble`: the first problem in one line, empty if there is none.
    """

    schema: int = SCHEMA
    node: NodeRecord | None = None
    verdicts: tuple[PublishedVerdict, ...] = ()
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
    """The readable part of `payload`. `origin` names the file in messages. Raises nothing."""
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
        if not head.unread and is_sound(node) and all(_can_be_judged(each, node.saved) for each in node.gpus):
            return Contents(schema=head.schema, node=node, trouble=trouble)
    except msgspec.DecodeError as error:
        trouble = trouble or f"{origin}: {error}"
    return _piecewise(head, trouble, origin)


def _head_of(payload: bytes) -> _Head | None:
    """The head of a document that has another shape than this version writes. None if the payload is no object.

    A schema that is not a number counts as a newer one, so that the file is not overwritten.
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
    # A record that an earlier version could not read: that version's own record of the GPU counts, unless the GPU is
    # still out of service.
    for text in head.unread:
        records.read_again(text, found)
    gpus = tuple(entry for entry in found if entry is not None)
    node, lost = lenient({**raw, "gpus": []}, NodeRecord)
    if not isinstance(node, NodeRecord):
        verdicts = (*records.verdicts, *(published_verdict(entry, records.boot, origin) for entry in gpus))
        return Contents(
            schema=head.schema,
            verdicts=verdicts,
            unread=tuple(records.unread),
            trouble=trouble or f"{origin}: node: {', '.join(lost)} cannot be read",
        )
    if records.unread or lost:
        detail = f"{len(records.unread)} of its GPU records cannot be read in full"
        trouble = trouble or f"{origin}: {detail if records.unread else ', '.join(lost)}"
    return Contents(
        schema=head.schema,
        node=replace(node, gpus=gpus),
        verdicts=tuple(records.verdicts),
        unread=tuple(records.unread)[:MAX_UNREAD],
        trouble=trouble,
    )


def _each(listed: object) -> list[object]:
    """The records of a list, or of an object whose keys name them."""
    if isinstance(listed, dict):
        return list(listed.values())
    return listed if isinstance(listed, list) else []


class _Records:
    """Reads GPU records and collects the unreadable ones."""

    def __init__(self, boot: str, origin: str) -> None:
        self.boot = boot
        self.verdicts: list[PublishedVerdict] = []
        self.unread: list[str] = []
        self._origin = origin

    def read(self, raw: object) -> GpuRecord | None:
        """The readable part of the record. None if the GPU cannot be identified or its state cannot be judged."""
        entry, lost = lenient(raw, GpuRecord)
        usable = isinstance(entry, GpuRecord) and _can_be_judged(entry, None)
        if usable and not lost:
            assert isinstance(entry, GpuRecord)
            return entry
        self.unread.append(_as_text(raw))
        self.verdicts += _published_verdicts(raw, self.boot, self._origin)
        return entry if usable and isinstance(entry, GpuRecord) else None

    def read_again(self, text: str, found: list[GpuRecord | None]) -> None:
        """Reads a record that an earlier version could not read. Its faults hold as long as the GPU is out of service."""
        try:
            raw = decoded(_ANY, text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError):
            return
        uuid = _text(_object(_object(raw).get("gpu")).get("uuid"))
        at = next((at for at, each in enumerate(found) if each is not None and each.gpu.uuid == uuid), None)
        mine = None if at is None else found[at]
        if mine is not None and mine.published is not None and mine.published.state is HealthState.HEALTHY:
            return
        entry, lost = lenient(raw, GpuRecord)
        if not isinstance(entry, GpuRecord) or lost or not _can_be_judged(entry, None):
            self.unread.append(text)
            self.verdicts += [] if mine is not None else _published_verdicts(raw, self.boot, self._origin)
        elif at is None or mine is None:
            found.append(entry)
        elif mine.isolated:
            found[at] = replace(mine, state=_joined(mine.state, entry.state))


def _joined(state: GpuState, richer: GpuState) -> GpuState:
    """`state` with the faults that only `richer` names. They replace the `EarlierFault` that stood in for them."""
    reasons = {fault.rule.reason for fault in state.faults}
    added = tuple(fault for fault in richer.faults if fault.rule.reason not in reasons)
    kept = tuple(fault for fault in state.faults if not (added and fault.rule.reason == "EarlierFault"))
    return replace(state, faults=tuple(sorted((*kept, *added), key=lambda fault: fault.rule.reason)))


def _published_verdicts(raw: object, boot: str, origin: str) -> list[PublishedVerdict]:
    """The published verdict of a record and its faults with a readable reason; empty for a record without a UUID."""
    record = _object(raw)
    uuid = _text(_object(record.get("gpu")).get("uuid"))
    if not uuid:
        return []
    published = _object(record.get("published"))
    isolated = record.get("isolated") is True
    base = PublishedVerdict(
        uuid=GpuUuid(uuid),
        state=_text(published.get("state")) or ("Unhealthy" if isolated else ""),
        reason=_text(published.get("reason")),
        isolated=isolated,
        origin=origin,
        boot_id=boot,
    )
    faults = _object(record.get("state")).get("faults")
    named = [_object(each) for each in (faults if isinstance(faults, list) else [])]
    return [base, *(_verdict_of_fault(base, fault) for fault in named)]


def _verdict_of_fault(base: PublishedVerdict, fault: Mapping[str, object]) -> PublishedVerdict:
    rule = _object(fault.get("rule"))
    is_definitive = rule.get("fault_class") == "A"
    state = "Unhealthy" if is_definitive else "Degraded"
    return replace(base, state=state, reason=_text(rule.get("reason")), isolated=is_definitive)


def published_verdict(entry: GpuRecord, boot: str, origin: str) -> PublishedVerdict:
    """The published verdict of a readable record. It is used if the rest of the memory is missing."""
    published = entry.published
    return PublishedVerdict(
        uuid=entry.gpu.uuid,
        state="Unhealthy" if published is None else published.state.value,
        reason=NO_REASON if published is None else published.reason,
        isolated=entry.isolated,
        origin=origin,
        boot_id=boot,
    )


def _can_be_judged(entry: GpuRecord, saved: Moment | None) -> bool:
    """Whether the fold accepts this state. A state that makes it raise must not end the agent."""
    now = saved or Moment(at=entry.published_at, time=entry.state_since)
    try:
        verdict(advance(entry.state, now.at, Policy()), now, Policy())
    except Exception:  # noqa: BLE001 - the record is kept as unread, and its published verdict stands in for it
        return False
    return True


def _object(raw: object) -> Mapping[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else ""
