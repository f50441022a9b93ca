"""An independent observer: a process with its own connection that stamps each event when its line arrives."""

import json
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import Json, LabError, LineProgram

_OPEN_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event of the watch: `at` in nanoseconds of CLOCK_MONOTONIC."""

    at: int
    kind: str
    object: Json


class Watcher:
    """Context manager over a watch of one path."""

    def __init__(self, program: Path, kubeconfig: Path, path: str, log: Path) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue()
        command = [str(program), f"--kubeconfig={kubeconfig}", f"--path={path}"]
        self._program = LineProgram(command, log, self._lines.put)
        try:
            opened = self._lines.get(timeout=_OPEN_SECONDS)
        except queue.Empty:
            self._program.stop()
            raise LabError(f"the watch of {path} did not open\n{self._program.log_end()}") from None
        assert opened == b"open\n", opened

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    def first(self, event: str, holds: Callable[[Seen], bool], seconds: float) -> Seen:
        """The next event that `holds` accepts; earlier ones are dropped. Raises LabError after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            try:
                seen = _parsed(self._lines.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                raise LabError(f"{event}: no watcher saw it in {seconds:.0f} s") from None
            if holds(seen):
                return seen

    def drain(self) -> int:
        """Drops the events that have arrived, and returns their number."""
        dropped = 0
        while not self._lines.empty():
            self._lines.get_nowait()
            dropped += 1
        return dropped


def _parsed(line: bytes) -> Seen:
    at, _, text = line.partition(b" ")
    event = json.loads(text)
    return Seen(at=int(at), kind=event["type"], object=event["object"])
