"""The requests of clients in order, for tests and the demo.

Place in the chain: the HTTP side adds one entry per request before it sends the answer, for a watch when its stream
begins. Bounded: the oldest entries are dropped first.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WRITE_VERBS = frozenset(("create", "update", "patch", "delete", "deletecollection"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """One request. `verb` is Kubernetes' (get, list, watch, create, ...); `resource` the plural, empty for
    paths that are no resource; `at_monotonic` is when it arrived, in seconds of `time.monotonic()`."""

    method: str
    path: str
    query: str = ""
    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    content_type: str = ""
    body: bytes = b""
    user_agent: str = ""
    user: str = ""
    status: int = 0
    at_monotonic: float = 0.0
    seconds: float = 0.0

    @property
    def is_write(self) -> bool:
        """Whether the request is a write."""
        return self.verb in WRITE_VERBS


class RequestLog:
    """The requests so far. Thread safe."""

    def __init__(self, *, limit: int = 10_000) -> None:
        self._entries: deque[RequestFacts] = deque(maxlen=limit)
        self._changed = threading.Condition()

    def add(self, entry: RequestFacts) -> None:
        """Adds a request. Called by the HTTP side."""
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def all(self) -> tuple[RequestFacts, ...]:
        """Every request, oldest first."""
        with self._changed:
            return tuple(self._entries)

    def select(
        self, *, verb: str = "", resource: str = "", subresource: str | None = None
    ) -> tuple[RequestFacts, ...]:
        """The requests with this verb and plural; an empty value matches all."""
        return tuple(
            entry
            for entry in self.all()
            if verb in ("", entry.verb)
            and resource in ("", entry.resource)
            and subresource in (None, entry.subresource)
        )

    def writes(self, *, resource: str = "") -> tuple[RequestFacts, ...]:
        """The writes, refused ones included."""
        return tuple(entry for entry in self.select(resource=resource) if entry.is_write)

    def clear(self) -> None:
        """Removes all entries."""
        with self._changed:
            self._entries.clear()

    def wait_for(
        self, is_wanted: Callable[[RequestFacts], bool], *, timeout_seconds: float
    ) -> RequestFacts | None:
        """The first matching request, waited for; None after the timeout."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                found = next((entry for entry in self._entries if is_wanted(entry)), None)
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self._changed.wait(left)
