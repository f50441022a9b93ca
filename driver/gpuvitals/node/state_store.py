"""The agent's memory on disk: a snapshot and a journal of the changes since.

A change is appended to the journal and durable before it is published. The snapshot is saved when the agent is idle,
at its stop, and if an append is impossible. A restart needs the GPUs, the state of each, the published verdicts and
the position in the kernel log. Times are on the boot clock, so they keep their meaning within one boot.

Files of a newer version are read as far as possible and never written: this version then saves beside them. A newer
version takes over from whichever were saved last (docs/adr/049, docs/adr/052).
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from gpuvitals.durable import DurableFile, DurableFileError, Stamps
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.journal import CAPACITY_BYTES, Journal
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.lasting import lasting_changes
from gpuvitals.node.memory_format import SCHEMA, Contents, GpuRecord, NodeRecord, contents, encoded
from gpuvitals.node.memory_merge import merged, replayed
from gpuvitals.observability.logs import keys

__all__ = ["SCHEMA", "GpuRecord", "Memory", "NodeRecord", "StateStore"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory that an earlier agent left. `node` is None at a first start, or if nothing can be read.

    `verdicts`: published verdicts that stand in for unreadable records. `cause` and `trouble`: the reason of
    an incomplete memory, else empty. `is_complete`: every GPU of the earlier agent was read in full. `is_older`: a part of the
    memory is lost, so the published verdicts may be newer than the memory.
    """

    node: NodeRecord | None = None
    verdicts: tuple[PublishedVerdict, ...] = ()
    cause: str = ""
    trouble: str = ""
    is_complete: bool = False
    is_older: bool = False

    @property
    def is_resumable(self) -> bool:
        """Whether the kernel log can be read on from the stored position: every GPU is remembered."""
        return not self.verdicts

    @property
    def remembered(self) -> frozenset[GpuUuid]:
        """The GPUs whose newest record was read in full."""
        if self.node is None or self.is_older:
            return frozenset()
        return frozenset(entry.gpu.uuid for entry in self.node.gpus) - {each.uuid for each in self.verdicts}


_NOTHING = Contents()


class _Files:
    """The snapshot and the journal that one schema version writes."""

    def __init__(self, snapshot: Path, journal_bytes: int) -> None:
        self.snapshot = DurableFile(snapshot)
        self.journal = Journal(snapshot.with_name(f"{snapshot.stem}.journal"), capacity_bytes=journal_bytes)

    def load(self) -> tuple[Contents, str]:
        """The contents, and a message if the newest part could not be read, else an empty one."""
        # The journal is read first: a predecessor that compacts in between leaves no gap this way.
        journal = self.journal.load(patient=True)
        loaded = self.snapshot.load(patient=True)
        payload, path = loaded.payload, str(self.snapshot.path)
        found = _NOTHING if payload is None else contents(payload, path)
        origin = str(self.journal.path)
        newer = [
            each for each in journal.records if found.node is None or each.sequence > found.node.sequence
        ]
        result = replayed(found, [contents(each.payload, origin) for each in newer], origin)
        return result.contents, loaded.recovered or journal.trouble or result.gap

    def remove(self) -> None:
        """Removes both. Raises DurableFileError."""
        self.journal.remove()
        self.snapshot.remove()


class StateStore:
    """The state files. Used by the agent's thread alone."""

    def __init__(self, path: Path, *, journal_bytes: int = CAPACITY_BYTES) -> None:
        beside = path.with_name(f"{path.stem}.schema-{SCHEMA}{path.suffix}")
        self._main = _Files(path, journal_bytes)
        self._beside = _Files(beside, journal_bytes)
        self._durable: NodeRecord | None = None
        self._snapshot: NodeRecord | None = None
        self._stamps: Stamps | None = None
        self._sequence = 0
        self._unread: tuple[str, ...] = ()
        self._is_newer = False
        self._is_merged = False
        self._has_journal_failed = False

    @property
    def path(self) -> Path:
        """The snapshot file that `save` writes."""
        return self._files.snapshot.path

    def load(self) -> Memory:
        """The readable part of the memory. Raises nothing; `trouble` has the first problem."""
        main, lost = self._main.load()
        beside, lost_beside = self._beside.load()
        self._is_newer = main.schema > SCHEMA
        self._is_merged = beside is not _NOTHING and not self._is_newer
        both = merged(main, beside)
        self._unread = both.unread
        self._sequence = max(each.node.sequence if each.node is not None else 0 for each in (main, beside))
        trouble = lost or main.trouble or lost_beside or beside.trouble
        return Memory(
            node=both.node,
            verdicts=both.verdicts,
            cause="newer-state" if self._is_newer else ("torn-state" if trouble else ""),
            trouble=trouble,
            is_complete=both.node is not None and not trouble,
            is_older=bool(lost or lost_beside),
        )

    def record(self, node: NodeRecord) -> None:
        """Makes the lasting changes of `node` durable, by an append if possible. Raises DurableFileError."""
        if not self._append(node):
            self.save(node)

    def save(self, node: NodeRecord) -> bool:
        """Makes the whole of `node` durable. True if something was written. Raises DurableFileError."""
        if self._durable is not None and self._durable is self._snapshot and node == self._snapshot:
            return False
        files, sequence = self._files, self._sequence + 1
        # Until a save succeeds no record is appended: the snapshot under it may be gone.
        self._durable = None
        files.snapshot.save(encoded(replace(node, sequence=sequence), self._unread))
        self._sequence, self._stamps = sequence, _stamps(files.snapshot)
        if self._is_merged:
            self._beside.remove()
            self._is_merged = False
        self._snapshot = self._durable = node
        return True

    def make_room(self) -> None:
        """Replaces a journal that takes no record or is half full, once the snapshot covers it. Raises nothing.

        Called after the publication of a change, since it costs more than an append.
        """
        journal = self._files.journal
        is_covered = self._durable is not None and self._durable is self._snapshot
        if not is_covered or (journal.is_open and not journal.is_half_full):
            return
        try:
            journal.create()
        except DurableFileError as error:
            # Every change is then durable by a snapshot, which takes longer.
            if not self._has_journal_failed:
                log.warning("journal not created", extra=keys(reason=str(error)))
            self._has_journal_failed = True
        else:
            self._has_journal_failed = False

    @property
    def _files(self) -> _Files:
        return self._beside if self._is_newer else self._main

    def _append(self, node: NodeRecord) -> bool:
        """Whether the changes are durable in the journal. False if a snapshot has to be saved instead."""
        if self._durable is None or not self._files.journal.is_open:
            return False
        changed = lasting_changes(self._durable, node)
        stamps = _stamps(self._files.snapshot)
        # Another stamp: a second agent published and saved in the meantime, or a person restored a file.
        if changed is None or stamps is None or stamps != self._stamps:
            return False
        sequence = self._sequence + 1
        payload = encoded(replace(node, gpus=changed, sequence=sequence), ())
        try:
            is_written = self._files.journal.append(sequence, payload)
        except DurableFileError as error:
            log.warning("journal not written", extra=keys(reason=str(error)))
            return False
        if is_written:
            self._sequence, self._durable = sequence, node
        return is_written


def _stamps(file: DurableFile) -> Stamps | None:
    """The times of the last writes. None if they cannot be read; the next save reports the cause."""
    try:
        return file.stamps()
    except OSError:
        return None
