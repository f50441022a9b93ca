"""The rules of events in both versions: one stored object, two views, two levels of strictness.

Place in the chain: `table.py` lists `EVENT_RULES`. An event with an `eventTime` is of the new kind and must have a
reporter and an action; one written as `events.k8s.io/v1` must be of that kind, and only its series may change.
Source: kubernetes/kubernetes pkg/apis/core/validation/events.go (1.37).
"""

from gpuvitals_sim.apiserver.errors import FieldError, invalid_value, required
from gpuvitals_sim.apiserver.json_types import Obj, dig, same
from gpuvitals_sim.apiserver.kinds import EVENTS_VIEW
from gpuvitals_sim.apiserver.strategy.metadata import IMMUTABLE
from gpuvitals_sim.apiserver.strategy.names import path_segment_complaints, qualified_name_complaints
from gpuvitals_sim.apiserver.strategy.rules import Rules

_NAME_LIMIT, _NOTE_LIMIT = 128, 1024
_STORED = {shown: stored for stored, shown in EVENTS_VIEW.items()}
_FIXED = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type", "action",
    "related", "reportingComponent", "reportingInstance", "eventTime",
)  # fmt: skip


def _default(event: Obj) -> None:
    event.setdefault("source", {})
    event.setdefault("reportingComponent", "")
    event.setdefault("reportingInstance", "")
    for name in ("firstTimestamp", "lastTimestamp", "eventTime"):
        event.setdefault(name, None)


def _is_new_version(event: Obj) -> bool:
    return str(event.get("apiVersion", "")).startswith("events.k8s.io/")


def _stored_names(event: Obj) -> Obj:
    """The event with the field names of the core version, which the real server validates."""
    if not _is_new_version(event):
        return event
    return {_STORED.get(name, name): value for name, value in event.items()}


def _create_errors(event: Obj) -> list[FieldError]:
    old = _stored_names(event)
    controller = "reportingController" if _is_new_version(event) else "reportingComponent"
    errors = _namespace_errors(old) + (_new_errors(old, controller) if old.get("eventTime") else [])
    if not _is_new_version(event):
        return errors
    if not old.get("eventTime"):
        errors.append(required("eventTime"))
    if old.get("type") not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {old.get('type') or ''}"))
    return errors + _deprecated_errors(old)


def _namespace_errors(event: Obj) -> list[FieldError]:
    namespace, about = event["metadata"].get("namespace"), event.get("involvedObject") or {}
    named = about.get("namespace") or ""
    if namespace == (named or "default") or (not named and namespace == "kube-system"):
        return []
    return [invalid_value("involvedObject.namespace", named, "does not match event.namespace")]


def _new_errors(event: Obj, controller: str) -> list[FieldError]:
    name = event.get("reportingComponent") or ""
    errors = [] if name else [required(controller)]
    errors += [invalid_value(controller, name, text) for text in qualified_name_complaints(name)]
    for field in ("reportingInstance", "action", "reason"):
        value = event.get(field) or ""
        if not value:
            errors.append(required(field))
        elif len(value.encode()) > _NAME_LIMIT:
            errors.append(invalid_value(field, "", f"can have at most {_NAME_LIMIT} characters"))
    if len((event.get("message") or "").encode()) > _NOTE_LIMIT:
        errors.append(invalid_value("message", "", f"can have at most {_NOTE_LIMIT} characters"))
    return errors


def _deprecated_errors(event: Obj) -> list[FieldError]:
    present = [name for name in ("firstTimestamp", "lastTimestamp", "count") if event.get(name)]
    if dig(event, "source", "component") or dig(event, "source", "host"):
        present.append("source")
    return [invalid_value(name, "", "needs to be unset") for name in present]


def _update_errors(new: Obj, old: Obj, _subresource: str) -> list[FieldError]:
    if not _is_new_version(new):
        return []
    changed, before = _stored_names(new), _stored_names(old)
    shown = {"reportingComponent": "reportingController"}
    return [
        invalid_value(shown.get(name, name), changed.get(name), IMMUTABLE)
        for name in _FIXED
        if not same(changed.get(name) or None, before.get(name) or None)
    ]


EVENT_RULES = Rules(
    default=_default,
    validate_create=_create_errors,
    validate_update=_update_errors,
    name_complaints=path_segment_complaints,
)
