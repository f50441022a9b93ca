"""The checkpoint on disk: what is prepared on this node, shared by every instance of the plugin.

Each operation loads, acts and saves under one flock, so that an old and a new instance can overlap; reading takes no
lock. Callers that wait for the lock together are served by one load and one save. A torn file falls back to its
previous generation and to what the CDI files tell, and says so.
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gpuvitals.durable import DurableFile, DurableFileError, Heads, Stamps
from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.checkpoint.format import SCHEMA, State, decode, encode
from gpuvitals.kubeletplugin.held_claim import HeldClaim, conflict
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.model.ids import BootId

FILE = "checkpoint.json"
LOCK = "checkpoint.lock"
DAMAGED = "checkpoint.json.damaged"

_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cached:
    """What the file held when it looked like this: `stamps` do for a look, `heads` for a decision."""

    stamps: Stamps
    heads: Heads
    state: State


class _Asked:
    """A change whose caller waits for the lock. Whoever has the lock makes it, and leaves the outcome here."""

    def __init__(self, change: Callable[[State], State]) -> None:
        self.change = change
        self.is_given_up = False
        self.after: State | None = None
        self.error: Exception | None = None

    def is_answered(self) -> bool:
        return self.after is not None or self.error is not None

    def outcome(self) -> State:
        """Raises what went wrong."""
        if self.error is not None:
            raise self.error
        assert self.after is not None, "a change has its outcome before its caller has the lock"
        return self.after


class Checkpoint:
    """The state file in the data directory. Thread safe; safe between processes.

    `recorded` gives the claims that the CDI files tell of; `recovered` is called with a cause (`corrupt`, `missing`,
    `quarantined`, `newer`), a message and the claims concerned whenever a file had to be recovered.
    """

    def __init__(
        self,
        directory: Path,
        boot: BootId,
        recorded: Callable[[], tuple[HeldClaim, ...]],
        recovered: Callable[[str, str, tuple[ClaimRef, ...]], None],
        lock_wait_seconds: float = 10.0,
    ) -> None:
        self._path = directory / FILE
        self._file = DurableFile(self._path)
        self._lock = _FileLock(directory / LOCK, lock_wait_seconds)
        self._boot = boot
        self._recorded = recorded
        self._recovered = recovered
        self._cached: _Cached | None = None
        self._undurable = False
        self._told: set[tuple[str, str]] = set()
        self._waiting: deque[_Asked] = deque()

    def read(self) -> State:
        """What is prepared now, without a lock and without a write. Raises RefusedError where nothing can be read."""
        cached = self._cached
        if cached is not None and cached.stamps == self.stamps() and not self._undurable:
            return cached.state
        return self.update(lambda state: state)

    def known(self) -> tuple[HeldClaim, ...]:
        """What is prepared as far as this instance has seen. Returns at once and asks no file."""
        cached = self._cached
        return () if cached is None else cached.state.claims

    def update(self, change: Callable[[State], State]) -> State:
        """The state after `change`, durable when this returns. An unchanged state writes nothing.

        `change` runs under the lock, on what is on disk now, in the thread of whoever has it; what it raises leaves
        everything as it was. Raises RefusedError (StorageFailed, Busy, CheckpointNewer); after Busy the change may
        yet be made, by a holder of the lock that had begun with it.
        """
        asked = _Asked(change)
        self._waiting.append(asked)
        try:
            with self._lock.held():
                if not asked.is_answered():
                    self._serve()
        except RefusedError:
            asked.is_given_up = True
            raise
        return asked.outcome()

    def stamps(self) -> Stamps:
        """Changes with every save, by whichever instance. Raises RefusedError."""
        try:
            return self._file.stamps()
        except OSError as error:
            raise _storage(f"{self._path}: {error.strerror}") from error

    def _serve(self) -> None:
        """Makes every change that waits, in the order of their callers, and saves once. Runs under the lock."""
        asked: list[_Asked] = []
        while self._waiting:
            asked.append(self._waiting.popleft())
        try:
            after = self._saved([each for each in asked if not each.is_given_up])
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the outcome of all, and each caller raises it
            for each in asked:
                each.error = each.error or error
            return
        for each in asked:
            each.after = after

    def _saved(self, asked: list[_Asked]) -> State:
        """The state with those of the changes that raised nothing."""
        heads = self._heads()
        state, must_save = self._load(heads)
        after = state
        for each in asked:
            try:
                after = each.change(after)
            except Exception as error:  # noqa: BLE001 - the caller's own, raised there; the others have no part in it
                each.error = error
        if after != state or must_save:
            heads = self._save(after)
        self._cached = _Cached(stamps=self.stamps(), heads=heads, state=after)
        return after

    def _heads(self) -> Heads:
        try:
            return self._file.heads()
        except OSError as error:
            raise _storage(f"{self._path}: {error.strerror}") from error

    def _load(self, heads: Heads) -> tuple[State, bool]:
        """The state, and whether it has to be saved although nothing changes it."""
        if self._cached is not None and self._cached.heads == heads and not self._undurable:
            return self._cached.state, False
        loaded = self._file.load()
        trouble, damaged = loaded.recovered, loaded.damaged
        state = State(boot=self._boot)
        if loaded.payload is not None:
            try:
                state = decode(loaded.payload, self._boot)
            except ValueError as error:
                trouble = trouble or f"{self._path}: {error}"
                damaged += (loaded.path,) if loaded.path is not None else ()
        if state.newer:
            self._tell("newer", f"{self._versions(state)}; it is read and not written", state)
        if state.quarantined:
            message = f"{len(state.quarantined)} entries of {self._path} can't be read; they are set aside"
            self._tell("quarantined", message)
            if not trouble and not state.newer:
                restored = self._restored(state)
                return restored, self._undurable or restored != state
        if trouble or loaded.payload is None:
            state = self._rebuilt(state, trouble, damaged)
            return state, bool(trouble or state.claims)
        return state, self._undurable

    def _restored(self, state: State) -> State:
        """Quarantined entries whose CDI file tells the same claim: its devices are in use, and must count so."""
        for held in self._recorded():
            without = state.without_quarantined(held.claim.uid)
            if without != state and conflict(held.claim.uid, held.devices, state.claims) is None:
                state = without.with_claim(held)
        return state

    def _rebuilt(self, state: State, trouble: str, damaged: tuple[Path, ...]) -> State:
        """The older generation together with what the CDI files of this boot tell."""
        recorded = self._recorded()
        kept = tuple(
            held
            for held in state.claims
            if held.claim.uid not in {entry.claim.uid for entry in recorded}
            and conflict(held.claim.uid, held.devices, recorded) is None
        )
        merged = replace(state, claims=(*kept, *recorded))
        if trouble:
            self._set_aside(damaged)
            message = (
                f"{trouble}; went on with {len(merged.claims)} claims from the previous generation and cdi"
            )
            self._recovered("corrupt", message, ())
        elif recorded:
            self._tell("missing", f"{self._path} is missing; {len(recorded)} claims are known from cdi files")
        return merged

    def _set_aside(self, damaged: tuple[Path, ...]) -> None:
        """Keeps what is damaged for a person."""
        try:
            self._file.set_aside(damaged, DAMAGED)
        except OSError as error:
            raise _storage(f"{self._path}: {error.strerror}") from error

    def _save(self, state: State) -> Heads:
        if state.newer:
            raise RefusedError(
                RefusalCode.CHECKPOINT_NEWER,
                f"{self._versions(state)}; upgrade this agent again, nothing was changed",
            )
        try:
            heads = self._file.save(encode(state))
        except DurableFileError as error:
            # the new generation may be in place and yet not durable: nobody may trust it before it is saved again
            self._undurable = True
            raise _storage(str(error)) from error
        self._undurable = False
        return heads

    def _versions(self, state: State) -> str:
        return (
            f"{self._path} was written with schema {state.schema} by a newer version; "
            f"this agent knows schema {SCHEMA}"
        )

    def _tell(self, cause: str, message: str, state: State | None = None) -> None:
        """Reports it once; to the claims of `state` as well, since their pods can't be released."""
        if (cause, message) not in self._told:
            self._told.add((cause, message))
            concerned = () if state is None else tuple(held.claim for held in state.claims)
            self._recovered(cause, message, concerned)


class _FileLock:
    """An flock that is waited for with an end. The kernel frees it when its holder dies."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._threads = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        until = time.monotonic() + self._wait_seconds
        if not self._threads.acquire(timeout=self._wait_seconds):
            raise self._busy("another call of this process")
        try:
            descriptor = self._opened()
            try:
                self._lock(descriptor, until)
                yield
            finally:
                os.close(descriptor)
        finally:
            self._threads.release()

    def _opened(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _storage(f"{self._path}: {error.strerror}") from error

    def _lock(self, descriptor: int, until: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    holder = os.pread(descriptor, 32, 0).split(b"\n")[0].decode("ascii", "replace")
                    raise self._busy(f"process {holder or 'unknown'}") from None
                time.sleep(_POLL_SECONDS)
                continue
            break
        try:
            os.pwrite(descriptor, f"{os.getpid()}\n".ljust(32).encode(), 0)
        except OSError:
            return  # the pid is for a person; on a full disk the lock itself still holds

    def _busy(self, holder: str) -> RefusedError:
        return RefusedError(
            RefusalCode.BUSY,
            f"{self._path} is held by {holder} for more than {self._wait_seconds:g} s; the kubelet asks again",
        )


def _storage(detail: str) -> RefusedError:
    return RefusedError(
        RefusalCode.STORAGE_FAILED, f"checkpoint: {detail}; nothing was prepared or unprepared"
    )
