"""Requests of an operator to remove a GPU from the agent's memory, passed from any thread to the agent's.

A request is answered once the memory without the GPU is saved.
"""

import threading
from dataclasses import dataclass, field

from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.queue import SignalQueue


@dataclass(slots=True)
class ForgetRequest:
    """One request. `refused` is the reason why the GPU has to stay; empty if it was removed."""

    uuid: GpuUuid
    done: threading.Event = field(default_factory=threading.Event)
    refused: str = ""


class Forgetting:
    """Thread safe. A request wakes the agent's loop through its queue."""

    def __init__(self, queue: SignalQueue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._waiting: list[ForgetRequest] = []
        self._taken: list[ForgetRequest] = []

    def request(self, uuid: GpuUuid, seconds: float) -> None:
        """Returns when the GPU is removed. Raises ValueError with the reason if it is not."""
        request = ForgetRequest(uuid)
        with self._lock:
            self._waiting.append(request)
        self._queue.wake()
        if not request.done.wait(seconds):
            with self._lock:
                if request in self._waiting:
                    self._waiting.remove(request)
                    raise ValueError(
                        f"gpu {uuid}: is not forgotten; the agent did not take the request in {seconds:g} s"
                    )
            raise ValueError(
                f"gpu {uuid}: the agent took the request and did not answer in {seconds:g} s; ask again"
            )
        if request.refused:
            raise ValueError(request.refused)

    def take(self) -> list[ForgetRequest]:
        """Takes all waiting requests. Agent's thread."""
        with self._lock:
            self._taken, self._waiting = self._waiting, []
        return self._taken

    def answer(self) -> None:
        """Answers the taken requests, once the memory is saved. Agent's thread."""
        for request in self._taken:
            request.done.set()
        self._taken = []
