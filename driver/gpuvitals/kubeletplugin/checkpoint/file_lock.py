"""An exclusive lock between the processes that share the checkpoint."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError

_POLL_SECONDS = 0.005


class FileLock:
    """An flock with a deadline. Excludes threads as well as processes; the kernel frees the lock of a dead process."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._threads = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for the block. Raises RefusedError (Busy after `wait_seconds`, StorageFailed)."""
        until = time.monotonic() + self._wait_seconds
        if not self._threads.acquire(timeout=self._wait_seconds):
            raise self._busy("another call of this process")
        try:
            descriptor = self._open()
            try:
                self._lock(descriptor, until)
                yield
            finally:
                os.close(descriptor)
        finally:
            self._threads.release()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_failed(f"{self._path}: {error.strerror}") from error

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
            return  # the PID is information for people; the lock holds without it, for example on a full disk

    def _busy(self, holder: str) -> RefusedError:
        return RefusedError(
            RefusalCode.BUSY,
            f"{self._path} has been held by {holder} for more than {self._wait_seconds:g} s; the kubelet retries",
        )


def storage_failed(detail: str) -> RefusedError:
    """The refusal for a checkpoint that can't be read or written."""
    return RefusedError(
        RefusalCode.STORAGE_FAILED, f"checkpoint: {detail}; nothing was prepared or unprepared"
    )
