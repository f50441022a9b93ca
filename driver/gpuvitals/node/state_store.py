"""The agent's memory on disk: a fault seen but not yet published is here, and survives any exit.

A restart needs the GPUs, the state of each, the verdicts that were published, and the position in the kernel log.
Times are on the boot clock, so they keep their meaning as long as the boot id is the same.

A file of a newer version is read as far as it goes and stays as it is: this version then saves to a file of its own
beside it. A newer version takes over from whichever of them was saved last (docs/adr/049).
"""

from dataclasses import dataclass, replace
from pathlib import Path

from gpuvitals.durable import DurableFile
from gpuvitals.health.remembered import ShownVerdict
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.memory_format import (
    MAX_UNREAD,
    SCHEMA,
    Contents,
    GpuRecord,
    NodeRecord,
    contents,
    encoded,
)

__all__ = ["SCHEMA", "GpuRecord", "Memory", "NodeRecord", "StateStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Everything that an earlier agent left. `node` is None at a first start, or where nothing can be read.

    `shown` are published verdicts that stand in for unreadable records. `cause` and `trouble` say what could not be
    read, empty where all was. `is_complete`: every GPU that the earlier agent knew was read in full. `is_older`: the
    newest generation of the file is lost, so that what was published may be newer than the memory.
    """

    node: NodeRecord | None = None
    shown: tuple[ShownVerdict, ...] = ()
    cause: str = ""
    trouble: str = ""
    is_complete: bool = False
    is_older: bool = False

    @property
    def is_resumable(self) -> bool:
        """Whether the kernel log can be read on from where it was read to: every GPU is remembered."""
        return not self.shown

    @property
    def remembered(self) -> frozenset[GpuUuid]:
        """The GPUs whose record was read in full and is the newest."""
        if self.node is None or self.is_older:
            return frozenset()
        return frozenset(entry.gpu.uuid for entry in self.node.gpus) - {each.uuid for each in self.shown}


_NOTHING = Contents()


class StateStore:
    """The state file. Owned by the agent's thread alone."""

    def __init__(self, path: Path) -> None:
        self._main = DurableFile(path)
        self._beside = DurableFile(path.with_name(f"{path.stem}.schema-{SCHEMA}{path.suffix}"))
        self._last = b""
        self._unread: tuple[str, ...] = ()
        self._is_newer = False
        self._is_merged = False

    @property
    def path(self) -> Path:
        """The file that `save` writes."""
        return (self._beside if self._is_newer else self._main).path

    def load(self) -> Memory:
        """What can be read of the memory. Raises nothing: what can't be read is told in `trouble`."""
        main, torn = self._read(self._main)
        beside, torn_beside = self._read(self._beside)
        self._is_newer = main.schema > SCHEMA
        self._is_merged = beside is not _NOTHING and not self._is_newer
        merged = _merged(main, beside)
        self._unread = merged.unread
        trouble = torn or main.trouble or torn_beside or beside.trouble
        return Memory(
            node=merged.node,
            shown=merged.shown,
            cause="newer-state" if self._is_newer else ("torn-state" if trouble else ""),
            trouble=trouble,
            is_complete=merged.node is not None and not trouble,
            is_older=bool(torn or torn_beside),
        )

    def save(self, node: NodeRecord) -> bool:
        """Makes `node` durable; True where something was written. Raises DurableFileError."""
        content = encoded(node, self._unread)
        if content == self._last:
            return False
        (self._beside if self._is_newer else self._main).save(content)
        if self._is_merged:
            self._beside.remove()
            self._is_merged = False
        self._last = content
        return True

    @staticmethod
    def _read(file: DurableFile) -> tuple[Contents, str]:
        loaded = file.load(patient=True)
        if loaded.payload is None:
            return _NOTHING, loaded.recovered
        return contents(loaded.payload, str(file.path)), loaded.recovered


def _merged(main: Contents, beside: Contents) -> Contents:
    """The contents that were saved last, with the GPUs that only the other one has."""
    first, second = (main, beside) if _is_later(main.node, beside.node) else (beside, main)
    if first.node is None:
        first, second = second, first
    if first.node is None:
        return replace(main, shown=(*main.shown, *beside.shown))
    known = {entry.gpu.uuid for entry in first.node.gpus}
    others = () if second.node is None or second.node.boot_id != first.node.boot_id else second.node.gpus
    gpus = (*first.node.gpus, *(entry for entry in others if entry.gpu.uuid not in known))
    shown = (*first.shown, *(each for each in second.shown if each.uuid not in known))
    # What a newer version wrote stays in its own file; only unread records of this schema have to be carried.
    unread = tuple(each for one in (main, beside) if one.schema <= SCHEMA for each in one.unread)
    return replace(first, node=replace(first.node, gpus=gpus), shown=shown, unread=unread[:MAX_UNREAD])


def _is_later(one: NodeRecord | None, other: NodeRecord | None) -> bool:
    if one is None or other is None:
        return one is not None
    if one.boot_id == other.boot_id:
        return one.saved.at >= other.saved.at
    return one.saved.time >= other.saved.time
