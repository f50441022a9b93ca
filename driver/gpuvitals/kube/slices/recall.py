"""Reads the verdicts that an earlier agent published, for an agent whose own memory cannot be read.

One list at the start. Nothing is published before its answer: otherwise the first write would show a failed GPU as
healthy.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Retryable
from gpuvitals.kube.retry import SLICES, RetriedLoop, retrying
from gpuvitals.kube.slices.codec import PATH
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.model.ids import GpuUuid
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_ORIGIN = "the published slice; the agent's memory could not be read"
_LIST = msgspec.json.Decoder(dict[str, Any])
_OUT = ("NoSchedule", "NoExecute")
_STATES = {"unhealthy": "Unhealthy", "degraded": "Degraded", "unknown": "Unknown"}


class SliceRecall:
    """Reads once, with retries, on a thread of its own. `changed` is called on that thread when `verdicts` is set."""

    def __init__(
        self,
        node: str,
        naming: Naming,
        transport: Transport,
        metrics: NodeMetrics,
        changed: Callable[[], None],
    ) -> None:
        selector = f"spec.driver={naming.driver},spec.nodeName={node}"
        self._call = Call(method="GET", path=PATH, query=(("fieldSelector", selector),))
        self._naming = naming
        self._transport = transport
        self._metrics = metrics
        self._changed = changed
        self._verdicts: tuple[PublishedVerdict, ...] | None = None
        # A daemon: it only reads, so a call that outlives the stop deadline has nothing to lose.
        self._thread = StoppableThread(self._run, name="slice-recall", daemon=True)

    @property
    def verdicts(self) -> tuple[PublishedVerdict, ...] | None:
        """The published verdicts; None until they are known."""
        return self._verdicts

    def start(self, *, is_needed: bool) -> None:
        """Starts to read; without need, `verdicts` is empty at once."""
        if is_needed:
            self._thread.start()
        else:
            self._verdicts = ()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; waits for a call in progress up to the deadline."""
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        try:
            retrying(SLICES, _RecallRetries(), self._thread.stopping, self._metrics)(self._read)
        except ApiError as error:
            log.debug("published slices not read", extra=keys(error=str(error)))

    def _read(self) -> None:
        answer = self._transport.request(self._call)
        try:
            self._verdicts = shown_verdicts(answer, self._naming)
        except msgspec.DecodeError as error:
            raise Retryable(f"list of own slices: {error}") from error
        self._changed()


class _RecallRetries(RetriedLoop):
    def __init__(self) -> None:
        self._failures = CauseLog(log, "published slices not read")

    def failed(self, error: ApiError, seconds: float) -> None:
        self._failures.failed(error, again_in=round(seconds, 1))

    def is_urgent(self) -> bool:
        return True


def shown_verdicts(body: bytes, naming: Naming) -> tuple[PublishedVerdict, ...]:
    """The verdicts on published and on withdrawn devices in a list of slices. Unreadable ones are left out.

    Raises msgspec.DecodeError for a `body` that is no list.
    """
    listed = decoded(_LIST, body).get("items")
    slices = [_object(each) for each in (listed if isinstance(listed, list) else [])]
    reports = [_report(each, naming) for each in slices]
    boot = next((text for report in reports if (text := _text(report.get("bootID")))), "")
    found = [verdict for each in slices for verdict in _published(each, naming, boot)]
    found += [verdict for report in reports for verdict in _withdrawn(report, boot)]
    return tuple(found)


def _published(entry: dict[str, Any], naming: Naming, boot: str) -> Iterator[PublishedVerdict]:
    for device in _objects(_object(entry.get("spec")).get("devices")):
        attributes = _object(device.get("attributes"))

        def value(key: str, kind: str = "string", found: dict[str, Any] = attributes) -> object:
            return _object(found.get(key)).get(kind)

        taints = [
            each
            for each in _objects(device.get("taints"))
            if _text(each.get("key")).startswith(f"{naming.driver}/")
        ]
        out = next((each for each in taints if each.get("effect") in _OUT), None)
        uuid = _text(value("uuid"))
        if not uuid:
            continue
        named = "" if out is None else _text(out.get("key")).rpartition("/")[2]
        xids = value(f"{naming.attribute_domain}/xidErrors", "int")
        last = value(f"{naming.attribute_domain}/lastXid", "int")
        yield PublishedVerdict(
            uuid=GpuUuid(uuid),
            state=_text(value(f"{naming.attribute_domain}/state")) or _STATES.get(named, named),
            reason=_text(value(f"{naming.attribute_domain}/reason"))
            or ("" if out is None else _text(out.get("value"))),
            isolated=out is not None,
            origin=_ORIGIN,
            boot_id=boot,
            last_xid=last if isinstance(last, int) and isinstance(xids, int) and xids > 0 else 0,
        )


def _withdrawn(report: dict[str, Any], boot: str) -> Iterator[PublishedVerdict]:
    for record in _objects(report.get("withdrawn")):
        uuid, last = _text(record.get("uuid")), record.get("lastXid")
        if uuid:
            yield PublishedVerdict(
                uuid=GpuUuid(uuid),
                state=_text(record.get("state")),
                reason=_text(record.get("reason")),
                isolated=True,
                origin=_ORIGIN,
                boot_id=boot,
                last_xid=last if isinstance(last, int) else 0,
            )


def _report(entry: dict[str, Any], naming: Naming) -> dict[str, Any]:
    annotations = _object(_object(entry.get("metadata")).get("annotations"))
    text = annotations.get(naming.node_report)
    if not isinstance(text, str):
        return {}
    try:
        return decoded(_LIST, text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        log.warning("published report not read", extra=keys(error=str(error)))
        return {}


def _object(raw: object) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _objects(raw: object) -> list[dict[str, Any]]:
    return [each for each in raw if isinstance(each, dict)] if isinstance(raw, list) else []


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else ""
