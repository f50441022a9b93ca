"""Child programs of the harness: JSON lines in and out. A program ends when its input closes."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ANSWER_SECONDS = 120.0
STOP_SECONDS = 10.0


class LabError(Exception):
    """A measurement failed: a process ended, refused, or did not answer in time. The text has the process and the reason."""


class LineProgram:
    """One program. A reader thread passes each line of its output to `take`. It ends when its input closes."""

    def __init__(self, command: Sequence[str], log: Path, take: Callable[[bytes], None]) -> None:
        self.name = Path(command[0]).name
        self.started_at = time.monotonic_ns()
        self._log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        self._take = take
        self._reader = threading.Thread(target=self._read, name=f"reader of {self.name}", daemon=True)
        self._reader.start()

    def write(self, order: Mapping[str, object]) -> None:
        """Sends one order."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise LabError(f"{self.name} takes no orders: {error}\n{self.log_end()}") from error

    def log_end(self) -> str:
        """The last 2,000 characters of its log."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> float:
        """Sends SIGTERM and returns the seconds to the exit. Kills it after STOP_SECONDS."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        took = time.monotonic() - began
        self._reader.join(STOP_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return took

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._take(line)


class Answering:
    """A LineProgram that answers each order with one object. `takes` gets every object first."""

    def __init__(self, command: Sequence[str], log: Path, takes: Callable[[Json], bool]) -> None:
        """`takes` returns True for an object that is no answer to an order."""
        self._takes = takes
        self._answers: queue.Queue[Json] = queue.Queue()
        self.program = LineProgram(command, log, self._received)

    def ask(self, order: Mapping[str, object], seconds: float = ANSWER_SECONDS) -> Json:
        """The answer to one order. Raises LabError for an error, and after `seconds` without an answer."""
        self.program.write(order)
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise LabError(
                f"{self.program.name} did not answer {order.get('op', order)} in {seconds:.0f} s\n"
                f"{self.program.log_end()}"
            ) from None
        if "error" in answer:
            raise LabError(f"{self.program.name}: {answer['error']}")
        return answer

    def _received(self, line: bytes) -> None:
        message: Json = json.loads(line)
        if not self._takes(message):
            self._answers.put(message)


def wait_until(condition: str, holds: Callable[[], bool], seconds: float) -> None:
    """Returns when `holds` is true. Raises LabError with `condition` after `seconds`."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise LabError(f"{condition}: not within {seconds:.0f} s")
        time.sleep(0.01)
