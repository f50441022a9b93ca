"""Calls to the NVML worker with a deadline each: what is asked, how long is waited, who is blamed. Parent side."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from gpuvitals.model.gpu import Gpu
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.nvml.worker_process import WorkerGone, WorkerProcess, WorkerSlot
from gpuvitals.signals.nvml_worker.protocol import (
    UNKNOWN,
    AttentionEvent,
    BackendEvent,
    CheckupValues,
    DriverFacts,
    GpuFacts,
    GpuValues,
    NvmlFailure,
    XidEvent,
)
from gpuvitals.signals.nvml_worker.wire import Answer, Checked, Failed, Identified, Opened, Request, Values

log = logging.getLogger(__name__)

_SLICE_SECONDS = 0.2
"""How long a stop may go unnoticed while a call is under way."""


class CallHung(Exception):
    """A call missed its deadline twice. Its worker was killed; `call` names what it was doing."""

    def __init__(self, call: str, seconds: float) -> None:
        super().__init__(f"{call} did not return in {seconds:g} s")
        self.call = call


class Stopping(Exception):
    """The agent stops while a call is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds to the first strike of a call; the second comes after as long again.

    Source: a starved worker looks like a hung one (NVIDIA/NVSentinel renamed its watchdog's signal for that), hence
    two strikes. Opening attaches every GPU, which takes seconds without persistence mode.
    """

    open_seconds: float = 30.0
    call_seconds: float = 5.0


class WorkerClient:
    """The agent's end of the pipe. Used by one thread; `on_event` is called on it, also in the middle of a call."""

    def __init__(
        self,
        seat: WorkerSlot,
        deadlines: Deadlines,
        on_event: Callable[[BackendEvent], None],
        stopping: Callable[[], bool],
        metrics: NodeMetrics | None = None,
    ) -> None:
        self.seat = seat
        self._deadlines = deadlines
        self._on_event = on_event
        self._stopping = stopping
        self._metrics = metrics
        self._last_id = 0

    def open(self, *, attach: bool = True) -> DriverFacts:
        """Starts a worker in the empty seat and lets it open the driver. Also raises WorkerLimitError, and OSError.

        Without `attach` it touches no GPU but those that it is asked about.
        """
        self.seat.start()
        request = Request(id=self._id(), call="open", attach=attach)
        answer = self._call(request, self._deadlines.open_seconds)
        return answer.driver if isinstance(answer, Opened) else self._odd(answer)

    def identify(self, index: int) -> GpuFacts:
        """Who the GPU at an index is."""
        answer = self._call(Request(id=self._id(), call="identify", index=index))
        return answer.gpu if isinstance(answer, Identified) else self._odd(answer)

    def read(self, gpu: Gpu) -> GpuValues:
        """One poll of a GPU."""
        answer = self._call(Request(id=self._id(), call="read", uuid=gpu.uuid, bus_id=gpu.bus_id))
        return answer.values if isinstance(answer, Values) else self._odd(answer)

    def check(self, gpu: Gpu) -> CheckupValues:
        """What is read of a GPU seldom."""
        answer = self._call(Request(id=self._id(), call="check", uuid=gpu.uuid, bus_id=gpu.bus_id))
        return answer.values if isinstance(answer, Checked) else self._odd(answer)

    def probe(self, gpu: Gpu) -> None:
        """Touches a GPU lightly."""
        self._call(Request(id=self._id(), call="probe", uuid=gpu.uuid, bus_id=gpu.bus_id))

    def watch(self, gpu: Gpu) -> None:
        """Registers for the events of a GPU, which is what may hang: so each is asked for by itself."""
        self._call(Request(id=self._id(), call="watch", uuid=gpu.uuid, bus_id=gpu.bus_id))

    def hear(self) -> None:
        """Asks for the events of the watched GPUs from now on."""
        self._call(Request(id=self._id(), call="hear"))

    def listen(self, seconds: float, wake: int) -> None:
        """Waits for events and hands over all there are, or until `wake` is readable. Raises WorkerGone."""
        worker = self._worker()
        try:
            message = worker.receive(seconds, wake)
            while message is not None:
                if isinstance(message, XidEvent | AttentionEvent):
                    self._on_event(message)
                message = worker.receive(0.0)
        except WorkerGone:
            self.seat.abandon()
            raise

    def _call(self, request: Request, seconds: float | None = None) -> Answer:
        """The answer. Raises NvmlFailure, CallHung, WorkerGone and Stopping; after the last three the seat is empty."""
        worker = self._worker()
        patience = self._deadlines.call_seconds if seconds is None else seconds
        name = f"{request.call} {request.uuid or request.index}".strip()
        began = time.monotonic()
        try:
            worker.send(request)
            answer = self._await(worker, request.id, patience)
            if answer is None:
                log.warning("nvml call is late", extra=keys(call=name, seconds=patience, worker=worker.pid))
                answer = self._await(worker, request.id, patience)
        except (WorkerGone, Stopping):
            self.seat.abandon()
            raise
        if self._metrics is not None:
            self._metrics.nvml_call_seconds.labels(call=request.call).observe(time.monotonic() - began)
        if answer is None:
            self.seat.abandon()
            raise CallHung(name, 2 * patience)
        if isinstance(answer, Failed):
            raise NvmlFailure(answer.code, answer.message)
        return answer

    def _await(self, worker: WorkerProcess, request_id: int, seconds: float) -> Answer | None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopping():
                raise Stopping
            message = worker.receive(min(left, _SLICE_SECONDS))
            if message is None:
                continue
            if isinstance(message, XidEvent | AttentionEvent):
                self._on_event(message)
            elif message.id == request_id:
                return message
        return None

    def _worker(self) -> WorkerProcess:
        if self.seat.worker is None:
            raise WorkerGone("no worker runs; one is started at the next attempt")
        return self.seat.worker

    def _id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _odd(self, answer: Answer) -> NoReturn:
        raise NvmlFailure(
            UNKNOWN, f"the worker answered {type(answer).__name__}, which is no answer to that call"
        )
