"""One NVML worker process, and the slot that bounds the number of workers. Agent's side.

A worker that hangs in the driver may be in uninterruptible sleep, and then SIGKILL takes effect only at its end. So
nothing here waits without a bound for a process to exit: a killed worker that remains counts as stuck and is reaped
later. While one worker is stuck, at most one replacement runs.
"""

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence

from gpuvitals.signals.fd_poll import readable
from gpuvitals.signals.nvml_worker.wire import MAX_LINE, Message, Request, line_from, message_from


class WorkerGone(Exception):
    """The worker exited or broke the protocol, and can't be used any more."""


class WorkerLimitError(Exception):
    """No worker can be started, since too many killed workers are stuck. Try again after `WorkerSlot.reap`."""


class WorkerProcess:
    """A running worker process. Used by one thread."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts the process in a session of its own, so that signals to the agent's process group do not reach it.

        Raises OSError if the program can't be started.
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
        """The process ID."""
        return self._process.pid

    def send(self, request: Request) -> None:
        """Writes one request without blocking: a request fits into an empty pipe. Raises WorkerGone."""
        line = line_from(request)
        try:
            written = self._stdin.write(line)
        except OSError as error:
            raise WorkerGone(f"worker {self.pid}: does not take requests: {error}") from error
        if written != len(line):
            raise WorkerGone(f"worker {self.pid}: does not take requests: its pipe is full")

    def receive(self, timeout_seconds: float, wake: int | None = None) -> Message | None:
        """The next message; None at the timeout or once file descriptor `wake` is readable. Raises WorkerGone."""
        deadline = time.monotonic() + timeout_seconds
        while not self._messages:
            files = (self._stdout.fileno(),) if wake is None else (self._stdout.fileno(), wake)
            ready = readable(files, deadline - time.monotonic())
            if self._stdout.fileno() not in ready:
                return None
            self._read()
        return self._messages.popleft()

    def kill(self) -> None:
        """Kills the process without waiting for its end."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()

    def shut_down(self, grace_seconds: float) -> bool:
        """Closes stdin, upon which the worker exits, and kills it after the grace period. Returns whether it has exited."""
        self._stdin.close()
        self._stdout.close()
        if not self.ended_within(grace_seconds):
            self._process.kill()
        return self.ended_within(grace_seconds)

    def ended(self) -> bool:
        """Whether the process has exited. Reaps it without waiting."""
        return self._process.poll() is not None

    def ended_within(self, seconds: float) -> bool:
        """Whether the process exits within that time."""
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
            raise WorkerGone(f"worker {self.pid}: wrote an invalid message: {error}") from error


class WorkerSlot:
    """Holds the one active worker and counts stuck ones. Used by one thread; any thread may read `children`."""

    MAX_STUCK = 1

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._worker: WorkerProcess | None = None
        self._stuck: list[WorkerProcess] = []
        self.spawned = 0

    @property
    def worker(self) -> WorkerProcess | None:
        """The active worker, None for an empty slot."""
        return self._worker

    @property
    def children(self) -> int:
        """The number of worker processes: the active one and the stuck ones."""
        return len(self._stuck) + (self._worker is not None)

    @property
    def stuck(self) -> int:
        """The number of killed workers that have not exited."""
        return len(self._stuck)

    def start(self) -> WorkerProcess:
        """Starts a worker in the empty slot. Raises WorkerLimitError while too many are stuck, and OSError."""
        assert self._worker is None
        self.reap()
        if len(self._stuck) > self.MAX_STUCK:
            raise WorkerLimitError(
                f"{len(self._stuck)} killed workers have not exited; no other is started until one does"
            )
        self._worker = WorkerProcess(self._command, self._environment)
        self.spawned += 1
        return self._worker

    def abandon(self) -> None:
        """Kills the worker and empties the slot, without waiting."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            self._stuck.append(worker)
            self.reap()

    def vacate(self, grace_seconds: float) -> bool:
        """Has the worker exit, and kills it after the grace period. Returns whether no worker process is left."""
        worker, self._worker = self._worker, None
        if worker is not None and not worker.shut_down(grace_seconds):
            self._stuck.append(worker)
        self.reap()
        return not self._stuck

    def close(self, grace_seconds: float) -> bool:
        """Empties the slot and waits up to the grace period for killed workers. Returns whether no process is left."""
        self.vacate(grace_seconds)
        deadline = time.monotonic() + grace_seconds
        for worker in self._stuck:
            worker.ended_within(max(0.0, deadline - time.monotonic()))
        self.reap()
        return not self._stuck

    def reap(self) -> None:
        """Removes stuck workers that have exited."""
        self._stuck = [worker for worker in self._stuck if not worker.ended()]
