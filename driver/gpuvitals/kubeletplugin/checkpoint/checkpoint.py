"""The checkpoint on disk: the prepared claims of this node, shared by all instances of the plugin.

Each operation loads, changes and saves under one flock, so that an old and a new instance can overlap; reads take no
lock. Changes that wait for the lock together are made with one load and one save.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.durable import DurableFile, DurableFileError, Heads, Stamps
from gpuvitals.kubeletplugin.checkpoint.file_lock import FileLock, storage_failed
from gpuvitals.kubeletplugin.checkpoint.format import State, encode
from gpuvitals.kubeletplugin.checkpoint.recovery import (
    CheckpointLoader,
    ClaimRecords,
    RecoveryReports,
    versions,
)
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.model.ids import BootId

FILE = "checkpoint.json"
LOCK = "checkpoint.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cached:
    """The state last loaded or saved. Reads trust it while `stamps` match; changes trust it while `heads` match."""

    stamps: Stamps
    heads: Heads
    state: State


class _PendingChange:
    """A change whose caller waits for the lock. The thread that holds the lock makes it and sets the result."""

    def __init__(self, change: Callable[[State], State]) -> None:
        self.change = change
        self.is_abandoned = False
        self.after: State | None = None
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.after is not None or self.error is not None

    def result(self) -> State:
        """The state after the change. Raises the change's own error."""
        if self.error is not None:
            raise self.error
        assert self.after is not None, "a change is made before its caller has the lock"
        return self.after


class Checkpoint:
    """The state file in the data directory. Safe between threads and between processes."""

    def __init__(
        self,
        directory: Path,
        boot: BootId,
        records: ClaimRecords,
        reports: RecoveryReports,
        lock_wait_seconds: float = 10.0,
    ) -> None:
        """`records` are the claims in CDI files, by which a damaged file is recovered; `reports` takes its reports."""
        self._path = directory / FILE
        self._file = DurableFile(self._path)
        self._loader = CheckpointLoader(self._path, self._file, boot, records, reports)
        self._lock = FileLock(directory / LOCK, lock_wait_seconds)
        self._cached: _Cached | None = None
        self._is_undurable = False
        self._pending: deque[_PendingChange] = deque()

    def read(self) -> State:
        """The current state, usually without a lock or a write. Raises RefusedError if nothing can be read."""
        cached = self._cached
        if cached is not None and cached.stamps == self.stamps() and not self._is_undurable:
            return cached.state
        return self.update(lambda state: state)

    def known(self) -> tuple[HeldClaim, ...]:
        """The prepared claims as last read by this instance. Returns at once and opens no file."""
        cached = self._cached
        return () if cached is None else cached.state.claims

    def update(self, change: Callable[[State], State]) -> State:
        """The state after `change`, durable when this returns. An unchanged state is not written.

        `change` runs under the lock, on the state now on disk, on the thread that holds the lock; if it raises, the
        state stays as it was and the caller gets the exception. Raises RefusedError (StorageFailed, Busy,
        CheckpointNewer). After Busy the change may still take effect, if a holder of the lock had begun with it.
        """
        pending = _PendingChange(change)
        self._pending.append(pending)
        try:
            with self._lock.held():
                if not pending.is_done:
                    self._apply_pending()
        except RefusedError:
            pending.is_abandoned = True
            raise
        return pending.result()

    def stamps(self) -> Stamps:
        """Stamps of the file, which change with each save of any instance. Raises RefusedError."""
        try:
            return self._file.stamps()
        except OSError as error:
            raise storage_failed(f"{self._path}: {error.strerror}") from error

    def _apply_pending(self) -> None:
        """Makes all pending changes in order of arrival, with one save. Runs under the lock."""
        batch: list[_PendingChange] = []
        while self._pending:
            batch.append(self._pending.popleft())
        try:
            after = self._save_changes([each for each in batch if not each.is_abandoned])
        except Exception as error:  # noqa: BLE001 - it is the result of the whole batch, and each caller raises it
            for each in batch:
                each.error = each.error or error
            return
        for each in batch:
            each.after = after

    def _save_changes(self, batch: list[_PendingChange]) -> State:
        """The saved state after every change of the batch that did not raise."""
        heads = self._heads()
        state, must_save = self._load(heads)
        after = state
        for each in batch:
            try:
                after = each.change(after)
            except Exception as error:  # noqa: BLE001 - raised to that change's caller; the other changes go on
                each.error = error
        if after != state or must_save:
            heads = self._save(after)
        self._cached = _Cached(stamps=self.stamps(), heads=heads, state=after)
        return after

    def _heads(self) -> Heads:
        try:
            return self._file.heads()
        except OSError as error:
            raise storage_failed(f"{self._path}: {error.strerror}") from error

    def _load(self, heads: Heads) -> tuple[State, bool]:
        """The state, and whether it must be saved even without a change."""
        if self._cached is not None and self._cached.heads == heads and not self._is_undurable:
            return self._cached.state, False
        return self._loader.load(was_refused=self._is_undurable)

    def _save(self, state: State) -> Heads:
        if state.newer:
            raise RefusedError(
                RefusalCode.CHECKPOINT_NEWER,
                f"{versions(self._path, state)}; upgrade this agent again, nothing was changed",
            )
        try:
            heads = self._file.save(encode(state))
        except DurableFileError as error:
            # The new generation may be visible without being durable: it is not trusted until it was saved again.
            self._is_undurable = True
            raise storage_failed(str(error)) from error
        self._is_undurable = False
        return heads
