"""Chooses which of two overlapping instances publishes: the newest one that runs and is ready.

Each instance holds an flock on a file of its own. The file's name carries the start time, its mode whether the instance
is ready (a full disk can't prevent that), its text the pod's UID. The kernel frees the lock of a dead instance, so no
heartbeat is needed. A second lock, `publisher.lock`, makes the hand-over exclusive: the older instance releases it
before the newer one publishes, and not before the newer one is ready, because no instance would report a fault in
between.
"""

import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpuvitals.kubeletplugin.directory import StorageError
from gpuvitals.observability.logs import keys
from gpuvitals.stoppable_thread import StoppableThread

_NAME = re.compile(r"instance-(\d{20})-[0-9a-f]{8}\.lock")
_FIXED = "instance.lock"
_PUBLISHER = "publisher.lock"
_CONTEND_SECONDS = 0.1
_HOLD_SECONDS = 0.5
_JOIN_SECONDS = 2.0
_MODE, _READY_MODE = 0o600, 0o700
_MAX_TEXT = 64

log = logging.getLogger(__name__)


class InstanceRunningError(Exception):
    """Another instance uses the data directory, and one of the two has no pod UID, so they can't share it."""


class InstanceObserver(Protocol):
    """The rest of the instance. Contract: every method returns at once, on the lock's thread."""

    def is_ready(self) -> bool:
        """Whether this instance could publish now."""
        ...

    def publishing_changed(self, *, is_publishing: bool) -> None:
        """Called with True once this instance may publish, and with False before another one may."""
        ...

    def instance_departed(self) -> None:
        """Called after another instance has ended."""
        ...

    def standing_by(self, publisher: str) -> None:
        """Called once this instance has stood by for `standby_seconds`. `publisher` is the other's pod UID."""
        ...


@dataclass(frozen=True, slots=True)
class _Other:
    is_ready: bool
    pod: str


class PublisherLock:
    """This instance's right to publish. All changes happen on one thread of its own."""

    def __init__(self, directory: Path, started: float, pod: str, standby_seconds: float) -> None:
        """`started` is in seconds since boot. `standby_seconds` is longer than a rolling update."""
        self._directory = directory
        self._name = f"instance-{int(started * 1e6):020d}-{secrets.token_hex(4)}.lock"
        self._pod = pod
        self._standby_seconds = standby_seconds
        self._observer: InstanceObserver | None = None
        self._is_ready = False
        self._beside_since: float | None = None
        self._shared: int | None = None
        self._own: int | None = None
        self._publisher: int | None = None
        self._others: Mapping[str, _Other] = {}
        self._thread = StoppableThread(self._run, name="kubeletplugin-publisher", daemon=False)

    def announce(self, *, exclusive: bool) -> None:
        """Makes this instance visible to others, before it opens a socket. `exclusive` refuses to share the directory.

        Raises InstanceRunningError, StorageError.
        """
        try:
            self._shared = self._claim_directory(exclusive=exclusive)
            self._own = self._announce()
        except OSError as error:
            raise StorageError(
                f"{self._directory}: {error.strerror}; the instance can't announce itself"
            ) from error

    def start(self, observer: InstanceObserver) -> None:
        """Starts to compare this instance with the others, and to contend for the right to publish."""
        self._observer = observer
        self._thread.start()

    def publishing(self) -> bool:
        """Whether this instance publishes."""
        return self._publisher is not None

    @property
    def stands_by(self) -> str:
        """The pod UID of the instance that publishes in place of this ready one; empty without one."""
        if self.publishing() or not self._is_ready:
            return ""
        others = self._others
        return others[max(others)].pod if others else ""

    def stop(self) -> None:
        """Releases all locks; the next instance publishes within a second."""
        self._thread.stop(_JOIN_SECONDS)
        self._yield()
        for descriptor in (self._own, self._shared):
            if descriptor is not None:
                os.close(descriptor)
        self._own = self._shared = None
        (self._directory / self._name).unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except OSError as error:
                log.warning("publisher lock not readable", extra=keys(reason=error))
            if self._thread.stopping.wait(_HOLD_SECONDS if self.publishing() else _CONTEND_SECONDS):
                return

    def _step(self) -> None:
        assert self._observer is not None, "the thread runs after start"
        others = self._running_instances()
        if self._others.keys() - others.keys():
            self._observer.instance_departed()
        self._others = others
        if not self._is_ready and self._own is not None and self._observer.is_ready():
            os.fchmod(self._own, _READY_MODE)
            self._is_ready = True
        is_superseded = any(other.is_ready and name > self._name for name, other in others.items())
        if self.publishing() and is_superseded:
            log.info("handing over to a newer instance", extra=keys(instances=sorted(others)))
            self._yield()
        # An instance that is not ready contends only if no other is ready either, so that a single agent never waits.
        wants = self._is_ready or not any(other.is_ready for other in others.values())
        if wants and not (self.publishing() or is_superseded):
            self._contend()
        self._report_standby()

    def _report_standby(self) -> None:
        """Reports a standby once. A rolling update ends before `standby_seconds` have passed."""
        if not self.stands_by:
            self._beside_since = None
            return
        now = time.monotonic()
        if self._beside_since is None:
            self._beside_since = now
        elif now - self._beside_since >= self._standby_seconds:
            self._beside_since = float("inf")
            if self._observer is not None:
                self._observer.standing_by(self.stands_by)

    def _contend(self) -> None:
        descriptor = self._open(_PUBLISHER)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return
        self._publisher = descriptor
        log.info("this instance publishes", extra=keys(instance=self._name))
        self._notify(is_publishing=True)

    def _yield(self) -> None:
        descriptor, self._publisher = self._publisher, None
        if descriptor is not None:
            self._notify(is_publishing=False)
            os.close(descriptor)

    def _notify(self, *, is_publishing: bool) -> None:
        if self._observer is not None:
            self._observer.publishing_changed(is_publishing=is_publishing)

    def _running_instances(self) -> dict[str, _Other]:
        """The other running instances by file name. Files of dead instances are removed."""
        running: dict[str, _Other] = {}
        for name in os.listdir(self._directory):
            if name == self._name or _NAME.fullmatch(name) is None:
                continue
            other = self._instance(name)
            if other is not None:
                running[name] = other
            else:
                (self._directory / name).unlink(missing_ok=True)
        return running

    def _instance(self, name: str) -> _Other | None:
        """The instance that holds the file's lock, None if it is free."""
        try:
            descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            pod = os.pread(descriptor, _MAX_TEXT, 0).decode("ascii", "replace").strip()
            return _Other(is_ready=mode == _READY_MODE, pod=pod or "unknown")
        finally:
            os.close(descriptor)
        return None

    def _announce(self) -> int:
        """Locks the own file before it gets its name, so that no other instance finds it unlocked."""
        hidden = f".{self._name}"
        descriptor = self._open(hidden)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            os.pwrite(descriptor, self._pod.encode()[:_MAX_TEXT], 0)
        except OSError as error:  # the text is for people; the lock needs no disk space
            log.warning("instance not named", extra=keys(reason=error.strerror))
        os.replace(self._directory / hidden, self._directory / self._name)
        return descriptor

    def _claim_directory(self, *, exclusive: bool) -> int:
        """Takes the lock that instances with sockets of their own share, and one with fixed socket names takes alone."""
        descriptor = self._open(_FIXED)
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InstanceRunningError(
                f"{self._directory / _FIXED} is held by another instance; give both a pod UID for a rolling "
                "update, or stop the other one"
            ) from None
        return descriptor

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._directory / name, flags, _MODE)
