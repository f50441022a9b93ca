"""One NVML worker process, and the seat that bounds how many there are. Parent side.

A worker that hangs in the driver may sit in uninterruptible sleep, where even SIGKILL waits. So nothing here ever
waits for a death: a killed worker that stays is remembered as stuck and reaped later, and while one is stuck there is
at most one replacement beside it.
"""

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence

from gpuvitals.signals.fd_poll import readable
from gpuvitals.signals.nvml_worker.wire import MAX_LINE, Message, Request, line_from, message_from


class WorkerGone(Exception):
    """The worker ended, or broke the protocol. It is of no more use."""


class WorkerLimitError(Exception):
    """No worker can be started now: others are stuck. `WorkerSlot.reap` tells when that changes."""


class WorkerProcess:
    """A running worker. Used by one thread."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts it by exec, in a session of its own, so that no signal to the agent's group meets it.

        Raises OSError where the program can't be started.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
            bufsize=0,
            close_fds=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        self._rest = b""
        self._messages: deque[Message] = deque()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, request: Request) -> None:
        """Writes one request; it never blocks, since a request fits into an empty pipe. Raises WorkerGone."""
        line = line_from(request)
        try:
            written = self._stdin.write(line)
        except OSError as error:
            raise WorkerGone(f"worker {self.pid}: does not take requests: {error}") from error
        if written != len(line):
            raise WorkerGone(f"worker {self.pid}: does not take requests: its pipe is full")

    def receive(self, timeout_seconds: float, wake: int | None = None) -> Message | None:
        """The next message; None at the timeout, or as soon as file descriptor `wake` is readable. Raises WorkerGone."""
        deadline = time.monotonic() + timeout_seconds
        while not self._messages:
            files = (self._stdout.fileno(),) if wake is None else (self._stdout.fileno(), wake)
            ready = readable(files, deadline - time.monotonic())
            if self._stdout.fileno() not in ready:
                return None
            self._read()
        return self._messages.popleft()

    def kill(self) -> None:
        """Ends it without waiting for it."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()

    def leave(self, grace_seconds: float) -> bool:
        """Closes its stdin, upon which it ends; kills it after the grace. True where it has ended."""
        self._stdin.close()
        self._stdout.close()
        if not self.ended_within(grace_seconds):
            self._process.kill()
        return self.ended_within(grace_seconds)

    def ended(self) -> bool:
        """Whether it is gone; reaps it without waiting."""
        return self._process.poll() is not None

    def ended_within(self, seconds: float) -> bool:
        """Whether it is gone after at most that long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self) -> None:
        chunk = os.read(self._stdout.fileno(), MAX_LINE)
        if not chunk:
            raise WorkerGone(f"worker {self.pid}: ended with code {self._process.poll()}")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise WorkerGone(f"worker {self.pid}: wrote a line of over {MAX_LINE} bytes")
        try:
            self._messages.extend(message_from(line) for line in lines)
        except ValueError as error:
            raise WorkerGone(f"worker {self.pid}: wrote what is no message: {error}") from error


class WorkerSlot:
    """Where the one worker sits. Used by one thread; `children` may be read by any."""

    MAX_STUCK = 1

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._worker: WorkerProcess | None = None
        self._stuck: list[WorkerProcess] = []
        self.spawned = 0

    @property
    def worker(self) -> WorkerProcess | None:
        """The worker that sits, None for an empty seat."""
        return self._worker

    @property
    def children(self) -> int:
        """How many processes there are: at most the worker and MAX_STUCK beside it."""
        return len(self._stuck) + (self._worker is not None)

    @property
    def stuck(self) -> int:
        """How many killed workers have not died."""
        return len(self._stuck)

    def start(self) -> WorkerProcess:
        """A new worker in the empty seat. Raises WorkerLimitError while too many are stuck, OSError as WorkerProcess does."""
        assert self._worker is None
        self.reap()
        if len(self._stuck) > self.MAX_STUCK:
            raise WorkerLimitError(
                f"{len(self._stuck)} killed workers do not die; no other is started until one does"
            )
        self._worker = WorkerProcess(self._command, self._environment)
        self.spawned += 1
        return self._worker

    def abandon(self) -> None:
        """Kills the worker and empties the seat, without waiting."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            self._stuck.append(worker)
            self.reap()

    def vacate(self, grace_seconds: float) -> bool:
        """Asks the worker to leave, and kills it after the grace. True where no process of ours is left."""
        worker, self._worker = self._worker, None
        if worker is not None and not worker.leave(grace_seconds):
            self._stuck.append(worker)
        self.reap()
        return not self._stuck

    def close(self, grace_seconds: float) -> bool:
        """Vacates the seat for good, and gives killed workers the grace to die. True where no process is left."""
        self.vacate(grace_seconds)
        deadline = time.monotonic() + grace_seconds
        for worker in self._stuck:
            worker.ended_within(max(0.0, deadline - time.monotonic()))
        self.reap()
        return not self._stuck

    def reap(self) -> None:
        """Forgets those that have died since."""
        self._stuck = [worker for worker in self._stuck if not worker.ended()]
