"""A folder and the processes of one test control plane, which leave nothing behind after any end of the tests.

Each control plane owns a folder in the temporary directory: its data, certificates, logs, the ids of its processes
and a file that its owner keeps locked. An owner that was killed can't clean up, but its lock is gone; so the next
workspace that opens finds the folder ownerless, ends the processes that still run from it and removes it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

PREFIX = "gpuvitals-real-"
STOP_SECONDS = 5.0


def _nothing_more(folder: Path) -> None:
    """Most control planes leave nothing outside their folder."""


class Workspace:
    """Context manager: a folder, and processes that are ended with it. Opening one clears up after dead owners.

    Folders are told apart by their prefix. `release` frees resources outside the folder; it is called, also for a
    dead owner's folder, when the recorded processes have ended and before the folder is removed. Of one prefix, only
    one workspace at a time is being opened or released.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        prefix: str = PREFIX,
        release: Callable[[Path], None] = _nothing_more,
    ) -> None:
        self._root = root if root is not None else Path(tempfile.gettempdir())
        self._prefix, self._release = prefix, release
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        with _only_one(self._root, self._prefix):
            self._sweep()
            self.folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._root))
            self._lock = (self.folder / "owner.lock").open("w", encoding="utf-8")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            _end(process)
        # One at a time: of two that end together, the second finds no other folder and is therefore the last.
        with _only_one(self._root, self._prefix):
            self._release(self.folder)
            shutil.rmtree(self.folder, ignore_errors=False)
        self._lock.close()

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts a process whose output goes to `<name>.log`. Call it from the main thread.

        The kernel kills the process when the thread that started it ends (setpriv's --pdeathsig), which for the main
        thread is the end of the tests, also by a kill -9.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"{name} must be started from the main thread: it dies with the thread that starts it"
            )
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [*guard, *command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        with (self.folder / "pids").open("a", encoding="utf-8") as pids:
            pids.write(f"{process.pid}\n")
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ends one process of this workspace before the others."""
        self._processes.remove(process)
        _end(process)

    def log(self, name: str) -> Path:
        """Returns the path of the log of the process `name`."""
        return self.folder / f"{name}.log"

    def _sweep(self) -> None:
        for folder in self._root.glob(f"{self._prefix}*/"):
            with (
                contextlib.suppress(BlockingIOError),
                (folder / "owner.lock").open("a", encoding="utf-8") as lock,
            ):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for pid in _recorded(folder):
                    _kill_if_from(pid, folder)
                self._release(folder)
                shutil.rmtree(folder)


def _recorded(folder: Path) -> list[int]:
    pids = folder / "pids"
    return [int(line) for line in pids.read_text(encoding="utf-8").split()] if pids.exists() else []


def _kill_if_from(pid: int, folder: Path) -> None:
    """Kills the process only if its command names the folder: the ID may belong to another process by now."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            _wait_for_end(pid)


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)


@contextlib.contextmanager
def _only_one(root: Path, prefix: str) -> Iterator[IO[str]]:
    """Opening, sweeping and closing exclude each other: a folder that isn't locked yet must not look ownerless."""
    with (root / f"{prefix}lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
