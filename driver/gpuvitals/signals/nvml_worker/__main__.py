"""The program of the NVML worker.

Run as `python -m gpuvitals.signals.nvml_worker [--backend module:factory]`. It reads requests from stdin and writes
answers and events to stdout, one JSON object per line (`wire`). Library calls run on other threads than the reader of
stdin, so the worker ends as soon as the agent does, also during a call.

The backend is passed by name, not imported: the scripted GPUs of the simulation are in a layer above this one.
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
from gpuvitals.stoppable_thread import StoppableThread

_EVENT_WAIT_SECONDS = 1.0
_EVENT_ERROR_SECONDS = 1.0
"""Pause after a failed wait, as in NVIDIA/DCGM. Without it a lost GPU would cause a busy loop."""


def main(arguments: list[str] | None = None) -> None:
    """Serves requests until stdin closes, then ends the process, since a thread in a blocked call can't be joined."""
    parser = argparse.ArgumentParser(prog="gpuvitals-nvml-worker", description="calls NVML for the agent")
    parser.add_argument(
        "--backend", default=DEFAULT_BACKEND, metavar="MODULE:FACTORY", help="the library to call"
    )
    options = parser.parse_args(arguments)
    faulthandler.enable(2)  # stderr is inherited from the agent, so this reaches its log
    answers = _private_stdout()
    try:
        backend = _backend(options.backend)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        parser.error(f"--backend {options.backend}: {error}")
    worker = Worker(backend, answers)
    StoppableThread(worker.serve, name="nvml-calls", daemon=True).start()
    for line in sys.stdin.buffer:
        worker.requests.put(request_from(line))
    # The other threads may be stuck in the library, so they are not joined.
    os._exit(0)


class Worker:
    """Serves calls one after the other on one thread, and events on another one after the call `events`."""

    def __init__(self, backend: NvmlBackend, answers: BinaryIO) -> None:
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._backend = backend
        self._answers = answers
        self._writing = threading.Lock()
        self._events = StoppableThread(self._send_events, name="nvml-events", daemon=True)

    def serve(self) -> None:
        """Answers requests; never returns."""
        while True:
            request = self.requests.get()
            try:
                answer = self._answer(request)
            except NvmlFailure as failure:
                answer = Failed(id=request.id, code=failure.code, message=str(failure))
            except Exception as error:  # noqa: BLE001 - a defect of a backend must not end the worker
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
                return Checked(id=request.id, checkup=backend.check(request.uuid, request.bus_id))
            case "probe":
                backend.probe(request.uuid, request.bus_id)
                return Done(id=request.id)
            case "watch":
                backend.watch(request.uuid, request.bus_id)
                return Done(id=request.id)
            case "events":
                self._events.start()
                return Done(id=request.id)

    def _send_events(self) -> None:
        while not self._events.stopping.is_set():
            try:
                event = self._backend.next_event(_EVENT_WAIT_SECONDS)
            except NvmlFailure as failure:
                # The library does not name the GPU, so the agent polls every GPU.
                self._send(AttentionEvent(uuid="", why=f"event wait failed: {failure}"))
                self._events.stopping.wait(_EVENT_ERROR_SECONDS)
                continue
            if event is not None:
                self._send(event)

    def _send(self, message: Message) -> None:
        with self._writing:
            self._answers.write(line_from(message))
            self._answers.flush()


def _private_stdout() -> BinaryIO:
    """The pipe to the agent, protected from libraries that print: file descriptor 1 becomes a copy of stderr."""
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
