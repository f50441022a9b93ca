"""The DCGM exporter on this node as a witness: its metrics, looked at again and again, become signals.

Optional. It is never waited for by anything else, and what it repeats is no evidence: a GPU whose energy counter stands
still for as long as a reading counts as fresh is not being read, whatever the other values say.
"""

import http.client
import ipaddress
import logging
import threading
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

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_MAX_XID = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class DcgmSettings:
    """Where the exporter listens, and how it is asked.

    `deadline_seconds` bounds a whole answer, `max_bytes` its size; an energy counter that stands still for
    `stale_seconds` is that of a GPU that nobody reads.
    """

    url: str
    period_seconds: float = 15.0
    deadline_seconds: float = 3.0
    max_bytes: int = 4 << 20
    stale_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class _Moved:
    """The last energy of a GPU, and since when it is that."""

    energy: float
    since: float


def refused_address(url: str, node_address: str, *, any_host: bool) -> str:
    """Why the exporter may not be asked at this address; empty where it may. Only this node's own is, unless said so."""
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
        self._moved: dict[GpuUuid, _Moved] = {}
        self._xids: dict[GpuUuid, int] = {}
        self._state: MonitorState | None = None
        self._stop = threading.Event()
        # A daemon: it only reads, so an answer that outlives the stop deadline has nothing to lose.
        self._thread = threading.Thread(target=self._run, name="dcgm", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops, and waits for an answer at hand up to the deadline."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def _run(self) -> None:
        while True:
            self._look()
            if self._stop.wait(self._settings.period_seconds):
                return

    def _look(self) -> None:
        try:
            told = dcgm_gpus(self._answer())
        except (OSError, ValueError, http.client.HTTPException, DcgmTextError) as error:
            self._monitor(MonitorState.UNRESPONSIVE, f"{self._settings.url}: {error}")
            return
        fresh = {uuid: gpu for uuid, gpu in told.items() if self._is_fresh(uuid, gpu)}
        if told and not fresh:
            self._monitor(MonitorState.UNRESPONSIVE, f"{self._settings.url}: repeats old values of every GPU")
        else:
            self._monitor(MonitorState.WATCHING, f"{len(fresh)} GPUs at {self._settings.url}")
        for uuid, gpu in fresh.items():
            self._tell(uuid, gpu)
        self._before = fresh

    def _answer(self) -> str:
        """The whole answer, within the deadline and the bound. Raises OSError, HTTPException, DcgmTextError."""
        settings, parts = self._settings, urlsplit(self._settings.url)
        until = time.monotonic() + settings.deadline_seconds
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=settings.deadline_seconds
        )
        try:
            connection.request("GET", parts.path or "/", headers={"Accept": "text/plain;version=0.0.4"})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise DcgmTextError(f"answers {answer.status} {answer.reason}")
            body = b""
            while chunk := answer.read1(_CHUNK):
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
        if gpu.told_at is not None and now.time.timestamp() - gpu.told_at > settings.stale_seconds:
            return False
        energy = gpu.values.get(ENERGY)
        if energy is None:
            return True
        moved = self._moved.get(uuid)
        if moved is None or moved.energy != energy:
            self._moved[uuid] = _Moved(energy, now.at)
            return True
        return now.at - moved.since < settings.stale_seconds

    def _tell(self, uuid: GpuUuid, gpu: DcgmGpu) -> None:
        before = self._before.get(uuid, DcgmGpu())
        slows = gpu.slows_down()
        heated = _grew(before, gpu, (THERMAL,))
        self._sink.put(
            Reading(
                source=Source.DCGM,
                seen=self._clock.now(),
                uuid=uuid,
                status=ReadStatus.OK,
                hardware_slowdown=heated if slows is None else slows or bool(heated),
                link_errors=_grew(before, gpu, LINK_ERRORS),
                ecc_uncorrected_volatile=gpu.count(UNCORRECTED),
                ecc_uncorrected_aggregate=gpu.count(UNCORRECTED_EVER),
                ecc_corrected_volatile=gpu.count(CORRECTED),
                remapped_uncorrectable=gpu.count(REMAPPED),
                remap_pending=gpu.flag(REMAP_PENDING),
                remap_failed=gpu.flag(REMAP_FAILED),
            )
        )
        self._tell_xid(uuid, gpu)

    def _tell_xid(self, uuid: GpuUuid, gpu: DcgmGpu) -> None:
        """The gauge holds the last XID for ever: only its change is news, and how old the first one is nobody knows."""
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
    """Whether one of the counters grew since the look before; None where none was shown twice. A reset is no growth."""
    shown = [name for name in metrics if name in before.values and name in now.values]
    return any(now.values[name] > before.values[name] for name in shown) if shown else None
