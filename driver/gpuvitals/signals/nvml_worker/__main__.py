"""The NVML worker: the child program that calls the library, so that a call that never returns blocks only it.

Run as `python -m gpuvitals.signals.nvml_worker [--backend module:factory]`. Requests come on stdin, answers and events
go to stdout, one JSON object a line (`wire`). Stdin is read on a thread that no library call can block: when the
agent goes away, the worker ends at once, also in the middle of a call.

The backend is named, not imported: the simulation passes its scripted GPUs, which live in a layer above this one.
"""

import argparse
import faulthandler
import importlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, cast

from gpuvitals.signals.nvml_worker.protocol import (
    DEFAULT_BACKEND,
    UNKNOWN,
    AttentionEvent,
    NvmlBackend,
    NvmlFailure,
)
from gpuvitals.signals.nvml_worker.wire import (
    Answer,
    Checked,
    Done,
    Failed,
    Identified,
    Message,
    Opened,
    Request,
    Values,
    line_from,
    request_from,
)

_EVENT_WAIT_SECONDS = 1.0
_EVENT_ERROR_SECONDS = 1.0
"""Pause after a failed wait. Source: NVIDIA/DCGM sleeps as long; without it a lost GPU makes a hot loop."""


def main(arguments: list[str] | None = None) -> None:
    """Serves requests until stdin closes; ends the process itself, since a blocked call can't be joined."""
    parser = argparse.ArgumentParser(prog="gpuvitals-nvml-worker", description="calls NVML for the agent")
    parser.add_argument("--backend", default=DEFAULT_BACKEND, metavar="MODULE:FACTORY", help="what to call")
    options = parser.parse_args(arguments)
    faulthandler.enable(2)  # the agent's log: the worker inherits its stderr
    answers = _private_stdout()
    try:
        backend = _backend(options.backend)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        parser.error(f"--backend {options.backend}: {error}")
    worker = Worker(backend, answers)
    threading.Thread(target=worker.serve, name="nvml-calls", daemon=True).start()
    for line in sys.stdin.buffer:
        worker.requests.put(request_from(line))
    # The threads are daemons and may be stuck in the library: nothing can be waited for here.
    os._exit(0)


class Worker:
    """Serves calls one after the other on one thread, and events on another once `hear` was asked for."""

    def __init__(self, backend: NvmlBackend, answers: BinaryIO) -> None:
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._backend = backend
        self._answers = answers
        self._writing = threading.Lock()
        self._events: threading.Thread | None = None

    def serve(self) -> None:
        """Answers requests for ever."""
        while True:
            request = self.requests.get()
            try:
                answer = self._answer(request)
            except NvmlFailure as failure:
                answer = Failed(id=request.id, code=failure.code, message=str(failure))
            except Exception as error:  # noqa: BLE001 - a backend's own bug must not silence the worker
                answer = Failed(id=request.id, code=UNKNOWN, message=f"{type(error).__name__}: {error}")
            self._send(answer)

    def _answer(self, request: Request) -> Answer:
        backend = self._backend
        match request.call:
            case "open":
                return Opened(id=request.id, driver=backend.open(attach=request.attach))
            case "identify":
                return Identified(id=request.id, gpu=backend.identify(request.index))
            case "read":
                return Values(id=request.id, values=backend.read(request.uuid, request.bus_id))
            case "check":
                return Checked(id=request.id, values=backend.check(request.uuid, request.bus_id))
            case "probe":
                backend.probe(request.uuid, request.bus_id)
                return Done(id=request.id)
            case "watch":
                backend.watch(request.uuid, request.bus_id)
                return Done(id=request.id)
            case "hear":
                self._start_events()
                return Done(id=request.id)

    def _start_events(self) -> None:
        if self._events is None:
            self._events = threading.Thread(target=self._wait_events, name="nvml-events", daemon=True)
            self._events.start()

    def _wait_events(self) -> None:
        pause = threading.Event()
        while True:
            try:
                event = self._backend.next_event(_EVENT_WAIT_SECONDS)
            except NvmlFailure as failure:
                # The library does not say which GPU: the agent looks at each of them.
                self._send(AttentionEvent(uuid="", why=f"event wait failed: {failure}"))
                pause.wait(_EVENT_ERROR_SECONDS)
                continue
            if event is not None:
                self._send(event)

    def _send(self, message: Message) -> None:
        with self._writing:
            self._answers.write(line_from(message))
            self._answers.flush()


def _private_stdout() -> BinaryIO:
    """The pipe to the agent, out of reach of a library that prints: file descriptor 1 becomes stderr."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


def _backend(name: str) -> NvmlBackend:
    module, separator, attribute = name.partition(":")
    if not separator:
        raise ValueError("not of the form module:factory")
    factory = cast(Callable[[], NvmlBackend], getattr(importlib.import_module(module), attribute))
    return factory()


if __name__ == "__main__":
    main()
