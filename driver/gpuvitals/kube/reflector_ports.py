"""The interface of a reflector: the objects that it selects, and the callbacks that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.retry import WATCH, RetryPolicy

ObjectKey = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The collection to reflect, its selectors, and the timing of list and watch.

    `page` is the number of objects in a page of a list. A watch that is silent for `silence_seconds` is closed.
    `resync_seconds` is the interval at which a watch begins with all stored objects; None for never.
    `is_cached`: the first list may be slightly old, since the API server answers it from its cache. `rejoin_seconds` is
    the longest delay before a broken watch is opened again; it is random, so that the nodes of a fleet do not reconnect
    at once.
    """

    path: str
    query: tuple[tuple[str, str], ...] = ()
    page: int = 500
    silence_seconds: float = 90.0
    policy: RetryPolicy = WATCH
    resync_seconds: float | None = None
    is_cached: bool = True
    rejoin_seconds: float = 5.0


class ReflectorHooks(Protocol):
    """Callbacks of a reflector, made on its thread. A subclass inherits the defaults."""

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        """Handles an object that is new or has changed; `raw` is None for an object that no longer exists.

        An object for which this raises msgspec.DecodeError is skipped and counted.
        """
        return

    def is_urgent(self) -> bool:
        """Whether the first list is needed now; a failed list is then retried within seconds."""
        return False

    def listed(self, error: ApiError | None) -> None:
        """Handles the end of an attempt: None after a complete list, else the error of the list or watch."""
        return

    def rejoined(self) -> None:
        """Handles a watch that follows a broken one: another API server may answer at the same address now."""
        return

    def deleted(self, key: ObjectKey, uid: str) -> None:
        """Handles a delete event, also of an object that was never reported. It precedes `changed`."""
        return

    def reached(self, resource_version: str) -> None:
        """Handles progress: every event up to this resourceVersion was reported."""
        return

    def settled(self, objects: Sequence[bytes], resource_version: str, *, rewound: bool) -> None:
        """Handles the complete content of the collection at a resourceVersion.

        `rewound`: the server's history is behind a version that it has shown before, as after a restored backup.
        """
        return
