"""Requests of other threads to the monitor, and the queue that wakes its thread."""

import os
import threading
from collections.abc import Collection
from dataclasses import dataclass

from gpuvitals.model.ids import GpuUuid
from gpuvitals.signals.fd_poll import readable


@dataclass(frozen=True, slots=True)
class PollRequest:
    """Poll one GPU now, or all for None."""

    uuid: GpuUuid | None


@dataclass(frozen=True, slots=True)
class AvoidRequest:
    """Probe a GPU at long intervals: its driver calls may hang after an XID."""

    uuid: GpuUuid


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """Stop probing for a GPU that the driver does not enumerate."""

    uuid: GpuUuid


@dataclass(frozen=True, slots=True)
class QuiesceRequest:
    """Close these GPUs and make no calls about them. `number` identifies the request in `Quiesce`."""

    uuids: Collection[GpuUuid]
    number: int


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """Poll quiesced GPUs again, all for None."""

    uuids: Collection[GpuUuid] | None


MonitorRequest = PollRequest | AvoidRequest | ForgetRequest | QuiesceRequest | ResumeRequest


class RequestQueue:
    """Requests in order. Thread safe, except that only the monitor's thread waits.

    The monitor waits for a file descriptor, since it waits for the worker's pipe at the same time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[MonitorRequest] = []
        self._closed = False
        self.wake_file = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def put(self, request: MonitorRequest) -> None:
        """Adds a request and wakes the monitor."""
        with self._lock:
            self._requests.append(request)
        self.wake()

    def take(self) -> list[MonitorRequest]:
        """Removes and returns all requests."""
        with self._lock:
            taken, self._requests = self._requests, []
        return taken

    def wake(self) -> None:
        """Makes `wake_file` readable. Does nothing after `close`."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.wake_file, 1)

    def clear_wake(self) -> None:
        """Makes `wake_file` unreadable again, before the requests are taken."""
        if readable((self.wake_file,), 0.0):
            os.eventfd_read(self.wake_file)

    def close(self) -> None:
        """Closes the file descriptor. Only after the monitor's thread has ended."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.wake_file)
