"""Turns events of the NVML library into XID reports and requests for polls."""

import logging
import time

from gpuvitals.model.clock import Clock
from gpuvitals.model.xids import HANDS_OFF_XIDS
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import xid_report
from gpuvitals.signals.nvml.schedule import PollSchedule
from gpuvitals.signals.nvml_worker.protocol import BackendEvent, XidEvent
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)


class EventReporter:
    """The EventHandler of the monitor. Used by the monitor's thread, also during a call about another GPU."""

    def __init__(
        self, schedule: PollSchedule, clock: Clock, sink: SignalSink, *, settle_seconds: float
    ) -> None:
        self._schedule = schedule
        self._clock = clock
        self._sink = sink
        self._settle_seconds = settle_seconds

    def handle(self, event: BackendEvent) -> None:
        """Sends an XidReport for an XID, and makes the GPU due. An event of no known GPU makes every GPU due."""
        now = time.monotonic()
        entry = self._schedule.get(event.uuid)
        uuid = None if entry is None else entry.gpu.uuid
        if not isinstance(event, XidEvent):
            log.info("nvml event", extra=keys(gpu=event.uuid, reason=event.why))
        elif entry is None:
            log.warning("xid of no known gpu", extra=keys(gpu=event.uuid, xid=event.code))
        else:
            self._sink.put(xid_report(event, entry.gpu, self._clock.now()))
            if event.code in HANDS_OFF_XIDS:
                self._schedule.avoid_after_xid(entry.gpu.uuid, now)
                return
        self._schedule.request(uuid, now, self._settle_seconds)
