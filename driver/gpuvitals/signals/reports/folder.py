"""The drop-in folder: a program on the node reports a GPU by creating a file, and retracts the report by deleting it.

`NAME.txt` holds the short form of a report, `NAME.json` the long form (`text`). The folder and each file must belong to
root or to the agent's own user, and no other user may have write access. The folder is scanned periodically; a missing
folder holds no reports.
"""

import logging
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import ExternalReport, ExternalReports, Source
from gpuvitals.observability.logs import keys
from gpuvitals.signals.reports.text import (
    MAX_BYTES,
    ReportError,
    Rules,
    reports_from_json,
    reports_from_lines,
)
from gpuvitals.signals.source import SignalSink
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

MAX_FILES = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.(?:json|txt)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropInSettings:
    """The folder, the time between two scans, and the longest scan; the next scan reads the files that are left."""

    folder: Path
    period_seconds: float = 5.0
    scan_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class _Stamp:
    """Identifies one content of a file."""

    inode: int
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class _File:
    """The reports of a file. `trouble` is why its present content is invalid; then `reports` are the last valid ones."""

    stamp: _Stamp | None
    reports: tuple[ExternalReport, ...]
    trouble: str = ""


class RefusalSink(Protocol):
    """Receives the invalid content of files, and the troubles of the folder."""

    def refused(self, place: str, why: str) -> None:
        """Called with a path and a reason, once per invalid content, on the thread of the source."""
        ...


class DropInSource:
    """A SignalSource over the folder. One thread."""

    name = "drop-in"

    def __init__(
        self, settings: DropInSettings, clock: Clock, sink: SignalSink, refusals: RefusalSink
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._refusals = refusals
        self._files: dict[str, _File] = {}
        self._sent: tuple[ExternalReport, ...] | None = None
        self._folder_trouble = ""
        # A daemon: a folder on a hanging file system must not delay the exit.
        self._thread = StoppableThread(self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Starts the scans."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops after the current scan, or at the deadline."""
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        while True:
            self._scan()
            if self._thread.stopping.wait(self._settings.period_seconds):
                return

    def _scan(self) -> None:
        path = self._settings.folder
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._files.clear()
            self._send()
            return
        except OSError as error:
            self._refuse_folder(f"can't be opened: {error.strerror}")
            return
        try:
            self._scan_open(folder)
        finally:
            os.close(folder)
        self._send()

    def _scan_open(self, folder: int) -> None:
        """Reads changed files. An untrusted folder changes nothing: the reports that were read before stay in force."""
        trouble = _ownership_trouble(os.fstat(folder))
        found = sorted(entry for entry in os.listdir(folder) if _NAME.match(entry))
        if not trouble and len(found) > MAX_FILES:
            trouble = f"has {len(found)} files, more than {MAX_FILES}"
        if trouble:
            self._refuse_folder(trouble)
            return
        self._folder_trouble = ""
        self._files = {name: file for name, file in self._files.items() if name in found}
        until = time.monotonic() + self._settings.scan_seconds
        for name in found:
            if time.monotonic() > until:
                self._refuse_folder(f"took longer than {self._settings.scan_seconds} s to read")
                return
            self._read_file(folder, name)

    def _read_file(self, folder: int, name: str) -> None:
        before = self._files.get(name)
        stamp = None
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                status = os.fstat(file)
                stamp = _Stamp(status.st_ino, status.st_size, status.st_ctime_ns)
                if before is not None and before.stamp == stamp:
                    return
                reports = self._parsed(name, _content(file, status))
            finally:
                os.close(file)
        except FileNotFoundError:
            self._files.pop(name, None)
        except (OSError, ReportError) as error:
            self._refuse_file(name, stamp, error)
        else:
            self._files[name] = _File(stamp, reports)

    def _refuse_file(self, name: str, stamp: _Stamp | None, error: OSError | ReportError) -> None:
        """Keeps the reports of the last valid content in force."""
        before = self._files.get(name)
        trouble = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if before is None or (before.stamp, before.trouble) != (stamp, trouble):
            self._refusals.refused(str(self._settings.folder / name), trouble)
        self._files[name] = _File(stamp, () if before is None else before.reports, trouble)

    def _parsed(self, name: str, content: bytes) -> tuple[ExternalReport, ...]:
        rules = Rules(by=name)
        if name.endswith(".json"):
            return reports_from_json(content, self._clock.now(), rules)
        try:
            return reports_from_lines(content.decode("utf-8"), rules)
        except UnicodeDecodeError as error:
            raise ReportError(f"is not UTF-8: {error.reason} at byte {error.start}") from error

    def _send(self) -> None:
        reports = tuple(each for _, file in sorted(self._files.items()) for each in file.reports)
        if reports == self._sent:
            return
        self._sent = reports
        log.info("drop-in reports", extra=keys(reports=len(reports)))
        self._sink.put(ExternalReports(source=Source.DROP_IN, seen=self._clock.now(), reports=reports))

    def _refuse_folder(self, trouble: str) -> None:
        """Reports a trouble of the folder once, until it changes."""
        if trouble != self._folder_trouble:
            self._folder_trouble = trouble
            self._refusals.refused(str(self._settings.folder), trouble)


def _content(file: int, status: os.stat_result) -> bytes:
    """The whole content of an open file. Raises ReportError for a file that is not trusted."""
    if not stat.S_ISREG(status.st_mode):
        raise ReportError("is no regular file")
    trouble = _ownership_trouble(status)
    if trouble:
        raise ReportError(trouble)
    if status.st_size > MAX_BYTES:
        raise ReportError(f"has {status.st_size} bytes, more than {MAX_BYTES}")
    return os.read(file, MAX_BYTES)


def _ownership_trouble(status: os.stat_result) -> str:
    """Why the owner or the mode of a file or folder is not trusted; empty if they are fine."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}, expected root"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o}), expected 0755 or less"
    return ""
