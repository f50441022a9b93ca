"""Stage 9 of 10: plans the smallest set of writes that turns the stored slices into the intended pool. Pure.

One changed slice is one PUT under the same generation, and deleted slices are re-created under theirs. Any larger change
is a new generation, which writes every slice of the pool: consumers use the highest generation only, and only once it is
complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuvitals.inventory.pool import Pool, PoolSlice
from gpuvitals.kube.slices.codec import (
    PATH,
    ObservedSlice,
    Placement,
    Stored,
    TaintKey,
    desired_content,
    encode,
    generate_name,
    observed_uses,
    pool_uses,
    slice_body,
)
from gpuvitals.kube.slices.metadata import NodeOwner, recreated_metadata
from gpuvitals.kube.slices.service_change import ChangeKind, kind_of_change
from gpuvitals.kube.transport import Call, object_path


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceWrite:
    """One write. `target` is the stored slice to replace or delete, None for a create; `body` is None for a delete.

    `content` is the `ObservedSlice.content` that the stored slice should have.
    """

    target: ObservedSlice | None
    body: bytes | None
    content: bytes = b""

    @property
    def kind(self) -> str:
        """`create`, `update` or `delete`."""
        if self.body is None:
            return "delete"
        return "create" if self.target is None else "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """Facts beside the stored slices.

    `generation` is the highest one ever used, `taint_times` the timeAdded of each taint: both outlive a deleted slice.
    `accepted` maps a desired content to the different one that the server stores for it. `foreign` is the last metadata
    of other clients, by the index of the slice.
    """

    generation: int
    taint_times: Mapping[TaintKey, str]
    accepted: Mapping[bytes, bytes] = field(default_factory=dict)
    foreign: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def plan(
    pool: Pool, owner: NodeOwner, observed: Sequence[ObservedSlice], context: PlanContext
) -> tuple[SliceWrite, ...]:
    """The writes, deletes first; empty if the stored pool is the desired one."""
    wanted = {entry.index: entry for entry in pool.slices}
    contents = {index: desired_content(entry, pool, owner) for index, entry in wanted.items()}
    current = _by_index(observed, pool, wanted)
    kept_names = {entry.name for entry in current.values()}
    # A slice that waits for a finalizer cannot be deleted again.
    obsolete = [entry for entry in observed if entry.name not in kept_names and not entry.terminating]
    highest = max([context.generation, *(entry.placement.generation for entry in observed)])
    place = Placement(generation=highest, count=len(wanted))
    missing = [index for index in wanted if index not in current]
    changed = [
        index
        for index, entry in current.items()
        if entry.placement != place or not _shows(entry, contents[index], context)
    ]
    if not (missing or changed or obsolete):
        return ()
    rewritten = _rewritten(missing, changed) if highest > 0 else None
    if rewritten is None:
        rewritten = sorted(wanted)
        place = Placement(generation=highest + 1, count=len(wanted))
    times = {key: at for entry in observed for key, at in entry.taint_times.items()}
    times |= context.taint_times
    writes = [SliceWrite(target=entry, body=None) for entry in obsolete]
    for index in rewritten:
        target = current.get(index)
        stored = Stored(foreign=_foreign(index, current, context), times=times)
        body = _encoded(slice_body(wanted[index], pool, owner, place, stored), target, (index, pool))
        writes.append(SliceWrite(target=target, body=body, content=contents[index]))
    return tuple(writes)


def change_kind(pool: Pool, observed: Sequence[ObservedSlice], writes: Sequence[SliceWrite]) -> ChangeKind:
    """The effect of the writes on the use of the pool's devices."""
    if any(write.kind != "update" for write in writes):
        return ChangeKind.SERVICE
    return kind_of_change(observed_uses(observed), pool_uses(pool))


def slice_call(write: SliceWrite) -> Call:
    """The request that makes the write."""
    if write.target is None:
        return Call(method="POST", path=PATH, body=write.body)
    path = object_path(PATH, write.target.name)
    if write.body is not None:
        return Call(method="PUT", path=path, body=write.body)
    guard = {"preconditions": {"uid": write.target.uid, "resourceVersion": write.target.resource_version}}
    return Call(method="DELETE", path=path, body=encode(guard))


def _foreign(index: int, current: Mapping[int, ObservedSlice], context: PlanContext) -> Mapping[str, Any]:
    target = current.get(index)
    return target.foreign if target is not None else recreated_metadata(context.foreign.get(index, {}))


def _rewritten(missing: list[int], changed: list[int]) -> list[int] | None:
    """The slices to write under the present generation; None if all must be written under a new one.

    Slices that are missing beside correct ones were deleted, and the pool's count includes them already.
    """
    if not changed:
        return sorted(missing)
    return changed if len(changed) == 1 and not missing else None


def _shows(entry: ObservedSlice, content: bytes, context: PlanContext) -> bool:
    return entry.content in (content, context.accepted.get(content))


def _encoded(
    body: dict[str, dict[str, object]], target: ObservedSlice | None, new: tuple[int, Pool]
) -> bytes:
    if target is None:
        body["metadata"]["generateName"] = generate_name(*new)
    else:
        body["metadata"]["name"] = target.name
        body["metadata"]["resourceVersion"] = target.resource_version
        body["metadata"]["uid"] = target.uid
    return encode(body)


def _by_index(
    observed: Sequence[ObservedSlice], pool: Pool, wanted: Mapping[int, PoolSlice]
) -> dict[int, ObservedSlice]:
    """One slice for each wanted index: of duplicates the one with the highest generation, then the first name.

    A slice of another pool is left out, since the pool of a stored slice cannot be changed.
    """
    chosen: dict[int, ObservedSlice] = {}
    for entry in sorted(observed, key=lambda item: (-item.placement.generation, item.name)):
        if entry.index is not None and entry.index in wanted and entry.pool == pool.node:
            chosen.setdefault(entry.index, entry)
    return chosen
