"""Chooses which of two overlapping instances publishes: the newest one that runs and is ready.

Each instance holds an flock on a file of its own; the file's name carries its age, its mode whether the instance is
ready (no full disk can refuse that), its text the pod. The kernel frees the lock of a dead instance, so life needs no heartbeat. A second lock,
`publisher.lock`, makes the hand-over exclusive: the older instance lets go of it before the newer one speaks, and not
before the newer one is ready, since nobody would report a fault in between.
"""

import fcntl
import logging
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.kubeletplugin.directory import StorageError
from gpuvitals.observability.logs import keys

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
    """Another instance runs on the data directory and one of the two has no pod UID: they can't share it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHooks:
    """None of these may block.

    `is_ready`: whether this instance could publish now. `changed` is called with True when it begins to publish and with
    False before another one may; `departed` when another instance has gone; `stands_by`, with the pod UID of another
    instance, once this one has lived beside it without publishing for `standby_seconds`.
    """

    is_ready: Callable[[], bool]
    changed: Callable[[bool], None]
    departed: Callable[[], None]
    stands_by: Callable[[str], None]
    standby_seconds: float


@dataclass(frozen=True, slots=True)
class _Other:
    is_ready: bool
    pod: str


class PublisherLock:
    """This instance's claim to act in public. Everything happens in one thread of its own."""

    def __init__(self, directory: Path, started: float, pod: str, hooks: InstanceHooks) -> None:
        self._directory = directory
        self._name = f"instance-{int(started * 1e6):020d}-{secrets.token_hex(4)}.lock"
        self._pod = pod
        self._hooks = hooks
        self._is_ready = False
        self._beside_since: float | None = None
        self._stop = threading.Event()
        self._shared: int | None = None
        self._own: int | None = None
        self._publisher: int | None = None
        self._others: Mapping[str, _Other] = {}
        self._thread = threading.Thread(target=self._run, name="kubeletplugin-publisher", daemon=False)

    def announce(self, *, exclusive: bool) -> None:
        """Takes this instance's place, before any socket. `exclusive` refuses to share the directory.

        Raises InstanceRunningError, StorageError.
        """
        try:
            self._shared = self._claim_directory(exclusive=exclusive)
            self._own = self._announce()
        except OSError as error:
            raise StorageError(
                f"{self._directory}: {error.strerror}; the instance can't announce itself"
            ) from error

    def start(self) -> None:
        """Begins to compare itself with the other instances, and to publish where it is the newest."""
        self._thread.start()

    def publishing(self) -> bool:
        """Whether this instance is the one that acts in public."""
        return self._publisher is not None

    @property
    def stands_by(self) -> str:
        """The pod UID of an instance that publishes in place of this one, which is ready too; empty where there is none."""
        if self.publishing() or not self._is_ready:
            return ""
        others = self._others
        return others[max(others)].pod if others else ""

    def stop(self) -> None:
        """Lets go of everything; the next instance publishes within a second."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
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
            if self._stop.wait(_HOLD_SECONDS if self.publishing() else _CONTEND_SECONDS):
                return

    def _step(self) -> None:
        others = self._living()
        if self._others.keys() - others.keys():
            self._hooks.departed()
        self._others = others
        if not self._is_ready and self._own is not None and self._hooks.is_ready():
            os.fchmod(self._own, _READY_MODE)
            self._is_ready = True
        overtaken = any(other.is_ready and name > self._name for name, other in others.items())
        if self.publishing() and overtaken:
            log.info("handing over to a newer instance", extra=keys(instances=sorted(others)))
            self._yield()
        # One that is not ready takes what nobody has, so that a lone agent never waits.
        wants = self._is_ready or not any(other.is_ready for other in others.values())
        if wants and not (self.publishing() or overtaken):
            self._contend()
        self._report_standby()

    def _report_standby(self) -> None:
        """Reports a standby once. A rolling update is over before `standby_seconds` have passed."""
        if not self.stands_by:
            self._beside_since = None
            return
        now = time.monotonic()
        if self._beside_since is None:
            self._beside_since = now
        elif now - self._beside_since >= self._hooks.standby_seconds:
            self._beside_since = float("inf")
            self._hooks.stands_by(self.stands_by)

    def _contend(self) -> None:
        descriptor = self._open(_PUBLISHER)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return
        self._publisher = descriptor
        log.info("this instance publishes", extra=keys(instance=self._name))
        self._hooks.changed(True)

    def _yield(self) -> None:
        descriptor, self._publisher = self._publisher, None
        if descriptor is not None:
            self._hooks.changed(False)
            os.close(descriptor)

    def _living(self) -> dict[str, _Other]:
        """The other instances that live; files of dead ones are removed."""
        living: dict[str, _Other] = {}
        for name in os.listdir(self._directory):
            if name == self._name or _NAME.fullmatch(name) is None:
                continue
            other = self._held(name)
            if other is not None:
                living[name] = other
            else:
                (self._directory / name).unlink(missing_ok=True)
        return living

    def _held(self, name: str) -> _Other | None:
        """What the instance that holds this file says; None where nobody holds it."""
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
        """Locks the own file before it has its name, so that nobody ever finds it free."""
        hidden = f".{self._name}"
        descriptor = self._open(hidden)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            os.pwrite(descriptor, self._pod.encode()[:_MAX_TEXT], 0)
        except OSError as error:  # the text is for people; the lock itself needs no space on the disk
            log.warning("instance not named", extra=keys(reason=error.strerror))
        os.replace(self._directory / hidden, self._directory / self._name)
        return descriptor

    def _claim_directory(self, *, exclusive: bool) -> int:
        """Instances with own socket names share this lock; one with fixed names takes it alone."""
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
