"""Tells of answered claims, once the answer has gone: logs, metrics, events, and whoever asks what is prepared.

No pod waits for any of it. Calls that are answered together are told together, after the last of them.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.claims.claim_queue import Operation
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode
from gpuvitals.kubeletplugin.ports import PluginEvent
from gpuvitals.observability.logs import keys

_PATIENT_SECONDS = 0.01
"""For so long telling waits: pods that start together need the processor first."""
_IDLE_SECONDS = 30.0

_QUIET = frozenset({RefusalCode.STOPPING, RefusalCode.SUPERSEDED, RefusalCode.STARTING})
"""Refusals that are nobody's fault: logged and counted, no event."""

log = logging.getLogger(__name__)

Observe = Callable[[Operation, str, float], None]
"""Takes (operation, code, seconds) of one answered claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOutcome:
    """One claim of a call as it was answered; `refusal` None where it was not refused."""

    operation: Operation
    ref: ClaimRef
    refusal: Refusal | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told. `changed` is called first, when what is prepared may have changed."""

    observe: Observe
    emit: Callable[[PluginEvent], None]
    changed: Callable[[], None]


class OutcomeReporter:
    """One thread. What is added before `start` is told too."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._added: queue.SimpleQueue[list[ClaimOutcome]] = queue.SimpleQueue()
        self._stop = threading.Event()
        # A daemon: told or not, what was answered is in the checkpoint, and the next agent reads it there.
        self._thread = threading.Thread(target=self._run, name="kubeletplugin-answered", daemon=True)

    def start(self) -> None:
        """Begins to tell."""
        self._thread.start()

    def add(self, ended: list[ClaimOutcome]) -> None:
        """Takes the claims of one call. Returns at once."""
        self._added.put(ended)

    def stop(self, deadline_seconds: float) -> None:
        """Tells what was added until now."""
        self._stop.set()
        self._added.put([])
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def _run(self) -> None:
        while not (self._stop.is_set() and self._added.empty()):
            try:
                ended = self._added.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                continue
            self._stop.wait(_PATIENT_SECONDS)
            while not self._added.empty():
                ended = [*ended, *self._added.get()]
            if ended:
                self._tell_all(ended)

    def _tell_all(self, ended: list[ClaimOutcome]) -> None:
        try:
            self._listeners.changed()
            for each in ended:
                self._tell(each)
        except Exception:  # no caller is left that could hear of it, and the next ones must be told
            log.exception("answered calls not told", extra=keys(claims=[each.ref.uid for each in ended]))

    def _tell(self, ended: ClaimOutcome) -> None:
        ref, refusal, operation = ended.ref, ended.refusal, ended.operation.value
        code = "ok" if refusal is None else refusal.code.value
        self._listeners.observe(ended.operation, code, ended.seconds)
        claim = f"{ascii(ref.namespace[:80])[1:-1]}/{ascii(ref.name[:260])[1:-1]}"
        if refusal is None:
            log.info(f"{operation}d", extra=keys(claim=claim, uid=ref.uid, seconds=round(ended.seconds, 4)))
            return
        extra = keys(claim=claim, uid=ascii(ref.uid[:80])[1:-1], reason=code, detail=refusal.message)
        log.warning(f"{operation} refused", extra=extra)
        if refusal.code not in _QUIET:
            known = None if refusal.code is RefusalCode.INVALID_ARGUMENT else ref
            message = refusal.text(f"{operation} of claim {claim} refused: ")
            self._listeners.emit(PluginEvent(reason=refusal.code.value, message=message, claim=known))
