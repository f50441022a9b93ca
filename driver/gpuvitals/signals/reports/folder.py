"""The drop-in folder: programs on the node say what they know of a GPU by putting a file there, and take it back with it.

`NAME.txt` has lines, `NAME.json` the long form (`text`). The folder and each file must belong to root, or to
the agent's own user, and nobody else may write them. Looked at by a scan: a folder that is not there says nothing.
"""

import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import ExternalReport, Source, StatementsReport
from gpuvitals.observability.logs import keys
from gpuvitals.signals.reports.text import (
    MAX_BYTES,
    Rules,
    StatementError,
    statements_from_json,
    statements_from_lines,
)
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

MAX_FILES = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.(?:json|txt)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropInSettings:
    """Where to look, how often, and how long one scan may take before it leaves the rest for the next one."""

    folder: Path
    period_seconds: float = 5.0
    scan_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one content of a file from the next."""

    inode: int
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class _File:
    """What a file says, or last said; `trouble` is why it can't be used as it is now."""

    stamp: _Stamp | None
    statements: tuple[ExternalReport, ...]
    trouble: str = ""


class DropInSource:
    """A SignalSource over the folder. `refused` hears, on its thread, of a file that can't be used, once per content."""

    name = "drop-in"

    def __init__(
        self, settings: DropInSettings, clock: Clock, sink: SignalSink, refused: Callable[[str, str], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._refused = refused
        self._files: dict[str, _File] = {}
        self._told: tuple[ExternalReport, ...] | None = None
        self._trouble = ""
        self._stop = threading.Event()
        # A daemon: a folder on a file system that hangs must not hold up the exit.
        self._thread = threading.Thread(target=self._run, name="drop-in", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops, and waits for a scan at hand up to the deadline."""
        self._stop.set()
        self._thread.join(deadline_seconds)

    def _run(self) -> None:
        while True:
            self._scan()
            if self._stop.wait(self._settings.period_seconds):
                return

    def _scan(self) -> None:
        try:
            folder = os.open(
                self._settings.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            self._files.clear()
            self._tell()
            return
        except OSError as error:
            self._complain(str(self._settings.folder), f"can't be opened: {error.strerror}")
            return
        try:
            self._scan_open(folder)
        finally:
            os.close(folder)
        self._tell()

    def _scan_open(self, folder: int) -> None:
        """Reads what has changed. Where the folder itself can't be trusted, what stood before stands on."""
        trouble = _ownership(os.fstat(folder))
        found = sorted(entry for entry in os.listdir(folder) if _NAME.match(entry))
        if not trouble and len(found) > MAX_FILES:
            trouble = f"has {len(found)} files, more than {MAX_FILES}"
        if trouble:
            self._complain(str(self._settings.folder), trouble)
            return
        self._trouble = ""
        self._files = {name: known for name, known in self._files.items() if name in found}
        until = time.monotonic() + self._settings.scan_seconds
        for name in found:
            if time.monotonic() > until:
                self._complain(
                    str(self._settings.folder), f"took longer than {self._settings.scan_seconds} s to read"
                )
                return
            self._take(folder, name)

    def _take(self, folder: int, name: str) -> None:
        known = self._files.get(name)
        stamp = None
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                status = os.fstat(file)
                stamp = _Stamp(status.st_ino, status.st_size, status.st_ctime_ns)
                if known is not None and known.stamp == stamp:
                    return
                statements = self._parsed(name, _content(file, status))
            finally:
                os.close(file)
        except FileNotFoundError:
            self._files.pop(name, None)
        except (OSError, StatementError) as error:
            self._went_bad(name, stamp, error)
        else:
            self._files[name] = _File(stamp, statements)

    def _went_bad(self, name: str, stamp: _Stamp | None, error: OSError | StatementError) -> None:
        """What the file said before it went bad stands on."""
        known = self._files.get(name)
        trouble = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if known is None or (known.stamp, known.trouble) != (stamp, trouble):
            self._refused(str(self._settings.folder / name), trouble)
        self._files[name] = _File(stamp, () if known is None else known.statements, trouble)

    def _parsed(self, name: str, content: bytes) -> tuple[ExternalReport, ...]:
        rules = Rules(by=name)
        if name.endswith(".json"):
            return statements_from_json(content, self._clock.now(), rules)
        try:
            return statements_from_lines(content.decode("utf-8"), rules)
        except UnicodeDecodeError as error:
            raise StatementError(f"is not UTF-8: {error.reason} at byte {error.start}") from error

    def _tell(self) -> None:
        statements = tuple(each for _, file in sorted(self._files.items()) for each in file.statements)
        if statements == self._told:
            return
        self._told = statements
        log.info("drop-in reports", extra=keys(statements=len(statements)))
        self._sink.put(StatementsReport(source=Source.DROP_IN, seen=self._clock.now(), statements=statements))

    def _complain(self, where: str, why: str) -> None:
        """About the folder: once, until the trouble is another one."""
        if why != self._trouble:
            self._trouble = why
            self._refused(where, why)


def _content(file: int, status: os.stat_result) -> bytes:
    """The whole of an open file. Raises StatementError where it is not one to be trusted."""
    if not stat.S_ISREG(status.st_mode):
        raise StatementError("is no regular file")
    trouble = _ownership(status)
    if trouble:
        raise StatementError(trouble)
    if status.st_size > MAX_BYTES:
        raise StatementError(f"has {status.st_size} bytes, more than {MAX_BYTES}")
    return os.read(file, MAX_BYTES)


def _ownership(status: os.stat_result) -> str:
    """Why a file or folder can't be trusted; empty where it can."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}, expected root"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o}), expected 0755 or less"
    return ""
