"""Which of two overlapping instances acts in public: the newest that lives.

Each instance holds an flock on a file of its own; the file's name carries its age. The kernel frees the lock of a
dead instance, so life needs no heartbeat. A second lock, `publisher.lock`, makes the hand-over exclusive: the older
instance lets go of it before the newer one speaks.
"""

import fcntl
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from gpuvitals.kubeletplugin.files import StorageError
from gpuvitals.observability.logs import keys

_NAME = re.compile(r"instance-(\d{20})-[0-9a-f]{8}\.lock")
_FIXED = "instance.lock"
_PUBLISHER = "publisher.lock"
_CONTEND_SECONDS = 0.1
_HOLD_SECONDS = 0.5
_JOIN_SECONDS = 2.0

log = logging.getLogger(__name__)


class InstanceRunningError(Exception):
    """Another instance runs on the data directory and one of the two has no pod UID: they can't share it."""


class PublisherLock:
    """This instance's claim to act in public. Everything happens in one thread of its own.

    `changed` is called with True when this instance begins to publish and with False before another one may;
    `departed` when another instance has gone. Neither may block.
    """

    def __init__(
        self, directory: Path, started: float, changed: Callable[[bool], None], departed: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._name = f"instance-{int(started * 1e6):020d}-{secrets.token_hex(4)}.lock"
        self._changed = changed
        self._departed = departed
        self._stop = threading.Event()
        self._shared: int | None = None
        self._own: int | None = None
        self._publisher: int | None = None
        self._others: frozenset[str] = frozenset()
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
        if self._others - others:
            self._departed()
        self._others = others
        newest = all(name < self._name for name in others)
        if self.publishing() and not newest:
            log.info("handing over to a newer instance", extra=keys(instances=sorted(others)))
            self._yield()
        elif not self.publishing() and newest:
            self._contend()

    def _contend(self) -> None:
        descriptor = self._open(_PUBLISHER)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return
        self._publisher = descriptor
        log.info("this instance publishes", extra=keys(instance=self._name))
        self._changed(True)

    def _yield(self) -> None:
        descriptor, self._publisher = self._publisher, None
        if descriptor is not None:
            self._changed(False)
            os.close(descriptor)

    def _living(self) -> frozenset[str]:
        """The other instances that live; files of dead ones are removed."""
        living: set[str] = set()
        for name in os.listdir(self._directory):
            if name == self._name or _NAME.fullmatch(name) is None:
                continue
            if self._is_held(name):
                living.add(name)
            else:
                (self._directory / name).unlink(missing_ok=True)
        return frozenset(living)

    def _is_held(self, name: str) -> bool:
        try:
            descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _announce(self) -> int:
        """Locks the own file before it has its name, so that nobody ever finds it free."""
        hidden = f".{self._name}"
        descriptor = self._open(hidden)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        return os.open(self._directory / name, flags, 0o600)
