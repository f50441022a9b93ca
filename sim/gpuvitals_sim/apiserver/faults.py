"""Injected faults: refusals, delays, lost answers, broken and stalled watches.

Place in the chain: the HTTP side applies them to each request; `InProcessClient` is never affected, so the
simulation's own controllers keep working. Thread safe; `clear()` ends all faults.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.errors import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.request_log import RequestFacts

_REASONS = {
    400: ("BadRequest", "injected bad request"),
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "injected refusal"),
    404: ("NotFound", "the server could not find the requested resource"),
    409: (
        "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    ),
    410: ("Expired", "too old resource version: injected"),
    422: ("Invalid", "injected validation error"),
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "Internal error occurred: injected"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "Timeout: request did not complete within the allotted timeout"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The requests that a fault affects; an empty part matches all. `path` is a regular expression to search for."""

    verbs: tuple[str, ...] = ()
    resource: str = ""
    subresource: str | None = None
    name: str = ""
    path: str = ""
    user_agent: str = ""
    when: Callable[[RequestFacts], bool] | None = None

    def fits(self, request: RequestFacts) -> bool:
        """Whether the fault affects the request."""
        return (
            (not self.verbs or request.verb in self.verbs)
            and self.resource in ("", request.resource)
            and self.subresource in (None, request.subresource)
            and self.name in ("", request.name)
            and (not self.path or re.search(self.path, request.path) is not None)
            and self.user_agent in request.user_agent
            and (self.when is None or self.when(request))
        )


EVERYTHING = Match()
WRITES = Match(verbs=("create", "update", "patch", "delete", "deletecollection"))


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One active fault. `left` is the number of requests that it still affects; None means until `end()`."""

    match: Match
    left: int | None = None
    status: int = 0
    message: str = ""
    retry_after_seconds: int = 0
    delay_seconds: float = 0.0
    loses_answer: bool = False
    hits: int = 0
    _faults: "Faults | None" = field(default=None, repr=False)

    def end(self) -> None:
        """Ends this fault."""
        if self._faults is not None:
            self._faults.remove(self)


class Faults:
    """The faults of one server."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._watches_flow = threading.Event()
        self._watches_flow.set()
        self._abort_generation = 0

    def fail(
        self,
        status: int,
        *,
        times: int | None = 1,
        match: Match = EVERYTHING,
        retry_after_seconds: int = 0,
        message: str = "",
    ) -> Fault:
        """The next `times` matching requests are refused with this code; None: until the fault ends."""
        return self._add(
            Fault(
                match=match, left=times, status=status, retry_after_seconds=retry_after_seconds, message=message
            )
        )  # fmt: skip

    def delay(self, seconds: float, *, times: int | None = None, match: Match = EVERYTHING) -> Fault:
        """Matching requests wait this long before they are processed."""
        return self._add(Fault(match=match, left=times, delay_seconds=seconds))

    def lose_answer(self, *, times: int | None = 1, match: Match = WRITES) -> Fault:
        """Matching requests take effect, and the connection breaks before the answer."""
        return self._add(Fault(match=match, left=times, loses_answer=True))

    def drop_watches(self, store_id: str = "", *, abrupt: bool = False) -> int:
        """Ends the running watches of a kind (`resourceslices.resource.k8s.io`), or all; returns how many.

        `abrupt` breaks the connections instead of ending the streams properly.
        """
        if abrupt:
            with self._lock:
                self._abort_generation += 1
        return self._api.store.close_subscriptions(store_id)

    def stall_watches(self) -> None:
        """Watch streams send nothing more and stay open: a half-open connection. `resume_watches` ends it."""
        self._watches_flow.clear()

    def resume_watches(self) -> None:
        """Watch streams continue, with the events of the meantime."""
        self._watches_flow.set()

    def compact(self) -> None:
        """Drops the history: resuming a watch or a paged list answers 410."""
        self._api.store.compact()

    def drop_fields(self, store_id: str, *paths: str) -> None:
        """Drops these fields silently on every write; no paths ends it. See `Api.drop_fields`."""
        self._api.drop_fields(store_id, *paths)

    def drop_device_taints(self) -> None:
        """Behaves as Kubernetes 1.34, which accepts device taints and drops them."""
        self.drop_fields("resourceslices.resource.k8s.io", "spec.devices[].taints")

    def clear(self) -> None:
        """Ends every fault, dropped fields included."""
        with self._lock:
            self._faults.clear()
        self._watches_flow.set()
        self._api.drop_fields("resourceslices.resource.k8s.io")

    def remove(self, fault: Fault) -> None:
        """Ends one fault."""
        with self._lock:
            self._faults = [item for item in self._faults if item is not fault]

    def take(self, request: RequestFacts) -> tuple[Fault, ...]:
        """The faults that affect this request, counted as used. Called by the HTTP side once per request."""
        with self._lock:
            hit = tuple(fault for fault in self._faults if fault.match.fits(request))
            for fault in hit:
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
            self._faults = [fault for fault in self._faults if fault.left is None or fault.left > 0]
        return hit

    @property
    def abort_generation(self) -> int:
        """Increases when running watches have to break; the HTTP side compares it."""
        return self._abort_generation

    def wait_for_flow(self, timeout_seconds: float) -> bool:
        """Whether watch streams may send, after waiting while they are stalled."""
        return self._watches_flow.wait(timeout_seconds)

    def _add(self, fault: Fault) -> Fault:
        fault._faults = self
        with self._lock:
            self._faults.append(fault)
        return fault


def refusal(fault: Fault) -> ApiError:
    """The answer of an injected refusal."""
    reason, message = _REASONS.get(fault.status, ("", f"injected status {fault.status}"))
    details: Obj | None = None
    if fault.retry_after_seconds:
        details = {"retryAfterSeconds": fault.retry_after_seconds}
    return ApiError(fault.status, reason, fault.message or message, details)
