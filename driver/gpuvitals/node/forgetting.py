"""Requests of a person to remove a GPU from the agent's memory, handed from any thread to the agent's.

A request is answered once the memory without the GPU is saved.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gpuvitals.model.ids import GpuUuid


@dataclass(slots=True)
class _Request:
    uuid: GpuUuid
    done: threading.Event = field(default_factory=threading.Event)
    refused: str = ""


class Forgetting:
    """`wake` has the agent's loop turn."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        self._served: list[_Request] = []

    def ask(self, uuid: GpuUuid, seconds: float) -> None:
        """Returns when the GPU is forgotten. Raises ValueError with the reason where it is not."""
        request = _Request(uuid)
        with self._lock:
            self._waiting.append(request)
        self._wake()
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

    def serve(self, forget: Callable[[GpuUuid], None]) -> None:
        """Takes every request. `forget` raises ValueError for a GPU that can't be forgotten. Agent's thread."""
        with self._lock:
            self._served, self._waiting = self._waiting, []
        for request in self._served:
            try:
                forget(request.uuid)
            except ValueError as error:
                request.refused = str(error)

    def answer(self) -> None:
        """Answers the requests that were served, once the memory is saved. Agent's thread."""
        for request in self._served:
            request.done.set()
        self._served = []
