"""Records what the agent hears, readings included, so that `gpuvitals replay` can judge it again under another policy.

Stands between the sources and the queue. Nothing waits for the disk: lines are written by a thread of its own, and what
it can't keep up with is left out and counted in the recording itself.
"""

import json
import logging
import threading
from collections import deque
from datetime import datetime
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import Signal
from gpuvitals.observability.logs import keys
from gpuvitals.signals.recorded import event_line
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20
"""Of one file. The one before is kept as `.1`: for eight GPUs that is about a day."""
MAX_WAITING = 20_000
_WRITE_SECONDS = 1.0


class SignalRecorder:
    """A SignalSink before another one. Without a path it hands on and records nothing."""

    def __init__(
        self, sink: SignalSink, clock: Clock, path: Path | None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Signal, datetime]] = deque()
        self._left_out = 0
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder")

    def put(self, signal: Signal) -> None:
        """Hands the signal on, then has it recorded. Any thread; does not block."""
        self._sink.put(signal)
        if self._path is None or self._failed:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((signal, self._clock.now().time))
        else:
            self._left_out += 1

    def start(self) -> None:
        """Begins to write."""
        if self._path is not None:
            self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Writes what waits, within the deadline."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(deadline_seconds)

    def _run(self) -> None:
        assert self._path is not None
        while not self._failed:
            is_last = self._stop.wait(_WRITE_SECONDS)
            try:
                self._write(self._path)
            except OSError as error:
                # A recording is a help, not a duty: the agent goes on without it, and says so.
                self._failed = True
                self._waiting.clear()
                log.error("signals not recorded any more", extra=keys(path=self._path, reason=str(error)))
            if is_last:
                return

    def _write(self, path: Path) -> None:
        lines = [event_line(*self._waiting.popleft()) for _ in range(len(self._waiting))]
        if self._left_out:
            lost, self._left_out = self._left_out, 0
            time = self._clock.now().time.isoformat()
            lines.append(json.dumps({"time": time, "event": "signals left out", "count": lost}))
        if not lines:
            return
        if path.exists() and path.stat().st_size >= self._max_bytes:
            path.replace(path.with_name(f"{path.name}.1"))
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
