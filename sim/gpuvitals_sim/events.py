"""Events as the simulated kubelet and scheduler write them: a repeated one raises the count of the first.

Place in the chain: beside the status writes of both.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from gpuvitals_sim.rest import ApiError, Json, Rest

log = logging.getLogger(__name__)

_CONFLICT = 409
_MAX_MESSAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What happened to an object; `component` and `host` say who tells it."""

    reason: str
    message: str
    component: str
    host: str = ""
    warning: bool = False


def post_event(rest: Rest, about: Json, notice: Notice) -> None:
    """Writes the event, or counts it up. A server that refuses it is logged: an event holds up nothing."""
    metadata = about["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/events"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event: Json = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": _name(metadata, notice), "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about.get("apiVersion", "v1"),
            "kind": about.get("kind", "Pod"),
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": notice.reason,
        "message": notice.message[:_MAX_MESSAGE],
        "type": "Warning" if notice.warning else "Normal",
        "source": {"component": notice.component, **({"host": notice.host} if notice.host else {})},
        "reportingComponent": notice.component,
        "reportingInstance": notice.host,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        _write(rest, path, event)
    except ApiError as error:
        log.warning(
            "event %s for %s: not written: %s; the event is lost", notice.reason, metadata["name"], error
        )


def _write(rest: Rest, path: str, event: Json) -> None:
    try:
        rest.create(path, event)
    except ApiError as error:
        if error.code != _CONFLICT:
            raise
        present = rest.get(f"{path}/{event['metadata']['name']}")
        seen = {"count": int(present.get("count") or 1) + 1, "lastTimestamp": event["lastTimestamp"]}
        rest.patch(f"{path}/{event['metadata']['name']}", seen)


def _name(metadata: Json, notice: Notice) -> str:
    digest = sha256(f"{metadata['uid']}/{notice.reason}/{notice.message}".encode()).hexdigest()[:16]
    return f"{metadata['name'][:200]}.{digest}"
