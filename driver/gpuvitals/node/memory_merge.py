"""Combines the contents of several state files: a snapshot with its journal, and the files of two versions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuvitals.node.memory_format import (
    MAX_UNREAD,
    SCHEMA,
    Contents,
    GpuRecord,
    NodeRecord,
    published_verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A snapshot with the journal applied. `gap` names the missing part in between, empty if nothing is missing."""

    contents: Contents
    gap: str = ""


def replayed(snapshot: Contents, records: Sequence[Contents], origin: str) -> Replayed:
    """`snapshot` with every journal record that is newer. `origin` names the journal in messages.

    A record holds the whole state of the GPUs that it lists, so the newest record of a GPU counts even if an earlier one
    is missing. The kernel log is then read again from the position before the gap; the fold is idempotent.
    """
    result = Replayed(contents=snapshot)
    for record in records:
        result = _with_record(result, record, origin)
    return result


def merged(main: Contents, beside: Contents) -> Contents:
    """The contents that were saved last, with the GPUs that only the other ones have."""
    first, second = (main, beside) if _is_later(main.node, beside.node) else (beside, main)
    if first.node is None:
        first, second = second, first
    if first.node is None:
        return replace(main, verdicts=(*main.verdicts, *beside.verdicts))
    known = {entry.gpu.uuid for entry in first.node.gpus}
    others = () if second.node is None or second.node.boot_id != first.node.boot_id else second.node.gpus
    gpus = (*first.node.gpus, *(entry for entry in others if entry.gpu.uuid not in known))
    verdicts = (*first.verdicts, *(each for each in second.verdicts if each.uuid not in known))
    # A newer version finds its unread records in its own file; only those of this schema have to be carried over.
    unread = tuple(each for one in (main, beside) if one.schema <= SCHEMA for each in one.unread)
    return replace(first, node=replace(first.node, gpus=gpus), verdicts=verdicts, unread=unread[:MAX_UNREAD])


def _with_record(result: Replayed, record: Contents, origin: str) -> Replayed:
    before, node = result.contents.node, record.node
    if before is not None and node is not None:
        if node.sequence <= before.sequence or not _is_later(node, before):
            return result
        if node.boot_id != before.boot_id:
            # Two boots have two clocks, so their records do not combine.
            gap = result.gap or f"{origin}: record {node.sequence} is of another boot than the snapshot"
            return replace(result, gap=gap)
    contents = replace(
        result.contents,
        schema=max(result.contents.schema, record.schema),
        verdicts=(*result.contents.verdicts, *record.verdicts),
        unread=(*result.contents.unread, *record.unread)[:MAX_UNREAD],
        trouble=result.contents.trouble or record.trouble,
    )
    if node is None:
        return Replayed(contents=contents, gap=result.gap or record.trouble)
    if before is None:
        gap = result.gap or f"{origin}: the snapshot before record {node.sequence} is missing"
        return Replayed(contents=_with_verdicts(contents, node, origin), gap=gap)
    gap = result.gap
    if node.sequence != before.sequence + 1:
        gap = gap or f"{origin}: records {before.sequence + 1} to {node.sequence - 1} are missing"
    read_to = before.kmsg_sequence if gap else node.kmsg_sequence
    gpus = _with_gpus(before.gpus, node.gpus)
    return Replayed(contents=replace(contents, node=replace(node, gpus=gpus, kmsg_sequence=read_to)), gap=gap)


def _with_verdicts(contents: Contents, node: NodeRecord, origin: str) -> Contents:
    """Without a snapshot the other GPUs are unknown, so the published verdicts stand in for a memory of the node."""
    known = {entry.gpu.uuid for entry in node.gpus}
    kept = tuple(each for each in contents.verdicts if each.uuid not in known)
    newest = tuple(published_verdict(entry, node.boot_id, origin) for entry in node.gpus)
    return replace(contents, verdicts=(*kept, *newest))


def _with_gpus(before: tuple[GpuRecord, ...], changed: tuple[GpuRecord, ...]) -> tuple[GpuRecord, ...]:
    newest = {entry.gpu.uuid: entry for entry in changed}
    kept = [newest.pop(entry.gpu.uuid, entry) for entry in before]
    return (*kept, *newest.values())


def _is_later(one: NodeRecord | None, other: NodeRecord | None) -> bool:
    if one is None or other is None:
        return one is not None
    if one.boot_id == other.boot_id:
        return one.saved.at >= other.saved.at
    return one.saved.time >= other.saved.time
