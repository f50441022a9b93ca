"""The kubelet of both sides: one Go program that registers a driver, calls it, and reads its health stream."""

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import Answering, Json, LabError

Call = Sequence[Json]
"""The claims of one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Seconds of each call, and of all of them together."""

    calls: tuple[float, ...]
    altogether: float


class Kubelet:
    """Registered with at most one driver at a time."""

    def __init__(self, program: Path, registry: Path, log: Path) -> None:
        self._registry = registry
        self._health: queue.Queue[Json] = queue.Queue()
        self._ends = Answering([str(program)], log, self._health_message)

    def register(self) -> int:
        """Waits for a driver's socket and registers it. Returns the instant (ns) of the answer to GetInfo."""
        return int(self._ends.ask({"op": "register", "registry": str(self._registry)})["answered"])

    def forget(self) -> None:
        """Breaks every connection, as a kubelet that ends."""
        self._ends.ask({"op": "forget"})

    def prepare(self, calls: Sequence[Call], *, callers: int = 1, apart_seconds: float = 0.0) -> Timed:
        """Makes the calls from `callers` threads at once. Raises LabError if one is refused."""
        return self._timed("prepare", calls, callers, apart_seconds)

    def unprepare(self, calls: Sequence[Call], *, callers: int = 1, apart_seconds: float = 0.0) -> Timed:
        """The same for NodeUnprepareResources."""
        return self._timed("unprepare", calls, callers, apart_seconds)

    def unhealthy_at(self, device: str, seconds: float) -> int:
        """The instant (ns) of the next health message with the device unhealthy. Raises LabError after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            try:
                message = self._health.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise LabError(f"no health message about {device} in {seconds:.0f} s") from None
            if device in message["health"]:
                return int(message["at"])

    def drain_health(self) -> None:
        """Drops the messages that have arrived."""
        while not self._health.empty():
            self._health.get_nowait()

    def stop(self) -> None:
        """Ends the program."""
        self._ends.program.stop()

    def _timed(self, operation: str, calls: Sequence[Call], callers: int, apart_seconds: float) -> Timed:
        claims = [list(call) for call in calls]
        apart = round(apart_seconds * 1000)
        answer = self._ends.ask({"op": operation, "claims": claims, "callers": callers, "apart_ms": apart})
        return Timed(
            calls=tuple(each / 1e9 for each in answer["took"]), altogether=answer["altogether"] / 1e9
        )

    def _health_message(self, message: Json) -> bool:
        if "health" not in message:
            return False
        self._health.put(message)
        return True
