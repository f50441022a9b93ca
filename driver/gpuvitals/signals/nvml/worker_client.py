"""Calls to the NVML worker, each with a deadline. Agent's side."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import NoReturn, Protocol

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.signal import Checkup
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.nvml.worker_process import WorkerGone, WorkerProcess, WorkerSlot
from gpuvitals.signals.nvml_worker.protocol import (
    UNKNOWN,
    AttentionEvent,
    BackendEvent,
    DriverFacts,
    GpuFacts,
    GpuValues,
    NvmlFailure,
    XidEvent,
)
from gpuvitals.signals.nvml_worker.wire import Answer, Checked, Failed, Identified, Opened, Request, Values

log = logging.getLogger(__name__)

_SLICE_SECONDS = 0.2
"""The longest time for which a stop goes unnoticed during a call."""


class CallHung(Exception):
    """A call missed both of its deadlines, and its worker was killed. `call` names the call and the GPU."""

    def __init__(self, call: str, seconds: float) -> None:
        super().__init__(f"{call} did not return in {seconds:g} s")
        self.call = call


class Stopping(Exception):
    """The agent stops during a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds to the first deadline of a call, upon which a warning is logged. The second one is as long again.

    A starved worker looks like a hung one, hence the second deadline (NVIDIA/NVSentinel renamed the signal of its
    watchdog for that reason). Opening attaches to every GPU, which takes seconds without persistence mode.
    """

    open_seconds: float = 30.0
    call_seconds: float = 5.0


class EventHandler(Protocol):
    """Receives the events of GPUs."""

    def handle(self, event: BackendEvent) -> None:
        """Handles one event. Called on the client's thread, also during a call about another GPU."""
        ...


class WorkerClient:
    """The agent's end of the pipe to the worker. Used by one thread. A call ends early once `stopping` is set."""

    def __init__(
        self,
        slot: WorkerSlot,
        deadlines: Deadlines,
        events: EventHandler,
        stopping: threading.Event,
        metrics: NodeMetrics | None = None,
    ) -> None:
        self.slot = slot
        self._deadlines = deadlines
        self._events = events
        self._stopping = stopping
        self._metrics = metrics
        self._last_id = 0

    def open(self, *, attach: bool = True) -> DriverFacts:
        """Starts a worker in the empty slot and opens the driver. Also raises WorkerLimitError and OSError.

        Without `attach` the worker touches a GPU only for a call about that GPU.
        """
        self.slot.start()
        request = Request(id=self._id(), call="open", attach=attach)
        answer = self._call(request, self._deadlines.open_seconds)
        return answer.driver if isinstance(answer, Opened) else self._unexpected(answer)

    def identify(self, index: int) -> GpuFacts:
        """The identity and facts of the GPU at an index."""
        answer = self._call(Request(id=self._id(), call="identify", index=index))
        return answer.gpu if isinstance(answer, Identified) else self._unexpected(answer)

    def read(self, gpu: Gpu) -> GpuValues:
        """One poll of a GPU."""
        answer = self._call(Request(id=self._id(), call="read", uuid=gpu.uuid, bus_id=gpu.bus_id))
        return answer.values if isinstance(answer, Values) else self._unexpected(answer)

    def check(self, gpu: Gpu) -> Checkup:
        """One checkup of a GPU."""
        answer = self._call(Request(id=self._id(), call="check", uuid=gpu.uuid, bus_id=gpu.bus_id))
        return answer.checkup if isinstance(answer, Checked) else self._unexpected(answer)

    def probe(self, gpu: Gpu) -> None:
        """Makes the cheapest call that reaches a GPU."""
        self._call(Request(id=self._id(), call="probe", uuid=gpu.uuid, bus_id=gpu.bus_id))

    def watch(self, gpu: Gpu) -> None:
        """Registers for the events of a GPU. A registration may hang, so there is one call per GPU."""
        self._call(Request(id=self._id(), call="watch", uuid=gpu.uuid, bus_id=gpu.bus_id))

    def start_events(self) -> None:
        """Has the worker send the events of the watched GPUs from now on."""
        self._call(Request(id=self._id(), call="events"))

    def listen(self, seconds: float, wake: int) -> None:
        """Waits for events and handles all of them, at most until `wake` is readable. Raises WorkerGone."""
        worker = self._worker()
        try:
            message = worker.receive(seconds, wake)
            while message is not None:
                if isinstance(message, XidEvent | AttentionEvent):
                    self._events.handle(message)
                message = worker.receive(0.0)
        except WorkerGone:
            self.slot.abandon()
            raise

    def _call(self, request: Request, seconds: float | None = None) -> Answer:
        """The answer. Raises NvmlFailure, CallHung, WorkerGone and Stopping; after the last three the slot is empty."""
        worker = self._worker()
        deadline_seconds = self._deadlines.call_seconds if seconds is None else seconds
        name = f"{request.call} {request.uuid or request.index}".strip()
        began = time.monotonic()
        try:
            worker.send(request)
            answer = self._await(worker, request.id, deadline_seconds)
            if answer is None:
                log.warning(
                    "nvml call is late", extra=keys(call=name, seconds=deadline_seconds, worker=worker.pid)
                )
                answer = self._await(worker, request.id, deadline_seconds)
        except (WorkerGone, Stopping):
            self.slot.abandon()
            raise
        if self._metrics is not None:
            self._metrics.nvml_call_seconds.labels(call=request.call).observe(time.monotonic() - began)
        if answer is None:
            self.slot.abandon()
            raise CallHung(name, 2 * deadline_seconds)
        if isinstance(answer, Failed):
            raise NvmlFailure(answer.code, answer.message)
        return answer

    def _await(self, worker: WorkerProcess, request_id: int, seconds: float) -> Answer | None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopping.is_set():
                raise Stopping
            message = worker.receive(min(left, _SLICE_SECONDS))
            if message is None:
                continue
            if isinstance(message, XidEvent | AttentionEvent):
                self._events.handle(message)
            elif message.id == request_id:
                return message
        return None

    def _worker(self) -> WorkerProcess:
        if self.slot.worker is None:
            raise WorkerGone("no worker runs; one is started at the next attempt")
        return self.slot.worker

    def _id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _unexpected(self, answer: Answer) -> NoReturn:
        raise NvmlFailure(
            UNKNOWN, f"the worker answered {type(answer).__name__}, which is no answer to that call"
        )
