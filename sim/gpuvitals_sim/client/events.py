"""Core events as kubelet, scheduler and controllers write them: a repeated event raises the count of the first.

Place in the chain: beside the status writes of those components.
"""

import logging
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus

from gpuvitals_sim.apiserver import ApiClient, ApiError
from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH

log = logging.getLogger(__name__)

EVENTS = "events"
_MAX_MESSAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """The content of an event; `component` and `host` name its source."""

    reason: str
    message: str
    component: str
    host: str = ""
    warning: bool = False


def record_event(client: ApiClient, about: Obj, record: EventRecord, *, once: bool = False) -> None:
    """Creates the event about an object, or raises its count; with `once` an existing event stays unchanged.

    A refusal by the server is logged and not raised: events are best effort.
    """
    metadata = about["metadata"]
    ref = metadata["namespace"], _name(metadata, record)
    try:
        client.create(EVENTS, _event(about, record, ref[1]))
    except ApiError as error:
        if error.code != HTTPStatus.CONFLICT:
            _log_lost(record, metadata["name"], error)
        elif not once:
            _count(client, record, ref)


def _count(client: ApiClient, record: EventRecord, ref: tuple[str, str]) -> None:
    namespace, name = ref
    try:
        present = client.get(EVENTS, name, namespace)
        update = {"count": int(present.get("count") or 1) + 1, "lastTimestamp": timestamp()}
        client.patch(EVENTS, ref, update, patch_type=STRATEGIC_PATCH)
    except ApiError as error:
        _log_lost(record, name, error)


def _event(about: Obj, record: EventRecord, name: str) -> Obj:
    metadata, now = about["metadata"], timestamp()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about.get("apiVersion", "v1"),
            "kind": about.get("kind", "Pod"),
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": record.reason,
        "message": record.message[:_MAX_MESSAGE],
        "type": "Warning" if record.warning else "Normal",
        "source": {"component": record.component, **({"host": record.host} if record.host else {})},
        "reportingComponent": record.component,
        "reportingInstance": record.host,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _log_lost(record: EventRecord, name: str, error: ApiError) -> None:
    log.warning("event %s for %s: not written: %s; the event is lost", record.reason, name, error)


def _name(metadata: Obj, record: EventRecord) -> str:
    digest = sha256(f"{metadata['uid']}/{record.reason}/{record.message}".encode()).hexdigest()[:16]
    return f"{metadata['name'][:200]}.{digest}"
