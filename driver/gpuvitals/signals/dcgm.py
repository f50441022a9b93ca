"""Polls the DCGM exporter of this node and turns its metrics into signals.

Optional; no other source waits for it. Repeated values are no evidence: if the energy counter of a GPU does not change
for as long as a reading counts as fresh, DCGM no longer reads that GPU, and none of its values are used.
"""

import http.client
import ipaddress
import logging
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import MonitorReport, MonitorState, Reading, ReadStatus, Source, XidReport
from gpuvitals.observability.logs import keys
from gpuvitals.signals.dcgm_text import (
    CORRECTED,
    ENERGY,
    LINK_ERRORS,
    REMAP_FAILED,
    REMAP_PENDING,
    REMAPPED,
    THERMAL,
    UNCORRECTED,
    UNCORRECTED_EVER,
    XID,
    DcgmGpu,
    DcgmTextError,
    dcgm_gpus,
)
from gpuvitals.signals.source import SignalSink
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_MAX_XID = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class DcgmSettings:
    """The exporter's URL and the limits of a request.

    `deadline_seconds` bounds a whole response, `max_bytes` its size. An energy counter that does not change for
    `stale_seconds` marks the GPU as stale.
    """

    url: str
    period_seconds: float = 15.0
    deadline_seconds: float = 3.0
    max_bytes: int = 4 << 20
    stale_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class _Energy:
    """The last energy reading of a GPU, and the boot-clock instant of its last change."""

    millijoules: float
    since: float


def refused_address(url: str, node_address: str, *, any_host: bool) -> str:
    """Why this URL is refused, empty if it is accepted. Only addresses of this node are, unless `any_host` is set."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or not host or parts.username is not None:
        return "expected http://HOST:PORT/metrics"
    try:
        parts.port  # noqa: B018  # evaluated for its check
    except ValueError as error:
        return f"port: {error}"
    if any_host or host == "localhost" or host == node_address:
        return ""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    return (
        ""
        if is_loopback
        else f"{host} is neither loopback nor this node's address {node_address or '(not known)'}"
    )


class DcgmSource:
    """A SignalSource over the exporter. One thread."""

    name = "dcgm"

    def __init__(self, settings: DcgmSettings, clock: Clock, sink: SignalSink) -> None:
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._before: dict[GpuUuid, DcgmGpu] = {}
        self._energies: dict[GpuUuid, _Energy] = {}
        self._xids: dict[GpuUuid, int] = {}
        self._state: MonitorState | None = None
        # A daemon: it only reads, so a request that outlives the stop deadline loses nothing.
        self._thread = StoppableThread(self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Starts polling."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops after the current request, or at the deadline."""
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        while True:
            self._poll()
            if self._thread.stopping.wait(self._settings.period_seconds):
                return

    def _poll(self) -> None:
        try:
            found = dcgm_gpus(self._response())
        except (OSError, ValueError, http.client.HTTPException, DcgmTextError) as error:
            self._monitor(MonitorState.UNRESPONSIVE, f"{self._settings.url}: {error}")
            return
        fresh = {uuid: gpu for uuid, gpu in found.items() if self._is_fresh(uuid, gpu)}
        if found and not fresh:
            self._monitor(MonitorState.UNRESPONSIVE, f"{self._settings.url}: repeats old values of every GPU")
        else:
            self._monitor(MonitorState.WATCHING, f"{len(fresh)} GPUs at {self._settings.url}")
        for uuid, gpu in fresh.items():
            self._report(uuid, gpu)
        self._before = fresh

    def _response(self) -> str:
        """The body of the response. Raises OSError, HTTPException and, beyond the deadline or the bound, DcgmTextError."""
        settings, parts = self._settings, urlsplit(self._settings.url)
        until = time.monotonic() + settings.deadline_seconds
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=settings.deadline_seconds
        )
        try:
            connection.request("GET", parts.path or "/", headers={"Accept": "text/plain;version=0.0.4"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise DcgmTextError(f"answers {response.status} {response.reason}")
            body = b""
            while chunk := response.read1(_CHUNK):
                body += chunk
                if len(body) > settings.max_bytes:
                    raise DcgmTextError(f"more than {settings.max_bytes} bytes")
                if time.monotonic() > until:
                    raise DcgmTextError(f"no whole answer within {settings.deadline_seconds} s")
        finally:
            connection.close()
        return body.decode("utf-8", errors="replace")

    def _is_fresh(self, uuid: GpuUuid, gpu: DcgmGpu) -> bool:
        now, settings = self._clock.now(), self._settings
        if (
            gpu.timestamp_seconds is not None
            and now.time.timestamp() - gpu.timestamp_seconds > settings.stale_seconds
        ):
            return False
        energy = gpu.values.get(ENERGY)
        if energy is None:
            return True
        last = self._energies.get(uuid)
        if last is None or last.millijoules != energy:
            self._energies[uuid] = _Energy(energy, now.at)
            return True
        return now.at - last.since < settings.stale_seconds

    def _report(self, uuid: GpuUuid, gpu: DcgmGpu) -> None:
        before = self._before.get(uuid, DcgmGpu())
        slowdown = gpu.hardware_slowdown()
        throttled = _grew(before, gpu, (THERMAL,))
        self._sink.put(
            Reading(
                source=Source.DCGM,
                seen=self._clock.now(),
                uuid=uuid,
                status=ReadStatus.OK,
                hardware_slowdown=throttled if slowdown is None else slowdown or bool(throttled),
                link_errors=_grew(before, gpu, LINK_ERRORS),
                ecc_uncorrected_volatile=gpu.count(UNCORRECTED),
                ecc_uncorrected_aggregate=gpu.count(UNCORRECTED_EVER),
                ecc_corrected_volatile=gpu.count(CORRECTED),
                remapped_uncorrectable=gpu.count(REMAPPED),
                remap_pending=gpu.flag(REMAP_PENDING),
                remap_failed=gpu.flag(REMAP_FAILED),
            )
        )
        self._report_xid(uuid, gpu)

    def _report_xid(self, uuid: GpuUuid, gpu: DcgmGpu) -> None:
        """Reports a change of the XID gauge, which holds the last XID for ever. The first value may be of any age."""
        if XID not in gpu.values:
            return
        code, before = int(gpu.values[XID]), self._xids.get(uuid)
        self._xids[uuid] = code
        if before is None or code == before or not 0 < code <= _MAX_XID:
            return
        self._sink.put(
            XidReport(source=Source.DCGM, seen=self._clock.now(), bus_id=None, uuid=uuid, code=code)
        )

    def _monitor(self, state: MonitorState, detail: str) -> None:
        if state is not self._state:
            self._state = state
            log.info("dcgm exporter", extra=keys(state=state.value, detail=detail))
            self._sink.put(
                MonitorReport(source=Source.DCGM, seen=self._clock.now(), state=state, detail=detail)
            )


def _grew(before: DcgmGpu, now: DcgmGpu, metrics: tuple[str, ...]) -> bool | None:
    """Whether one of the counters grew since the last poll; None if no counter is in both polls. A reset is no growth."""
    shown = [name for name in metrics if name in before.values and name in now.values]
    return any(now.values[name] > before.values[name] for name in shown) if shown else None
