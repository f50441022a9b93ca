"""Refusals of the API server: one exception, and a function for each kind of refusal.

Place in the chain: raised by the store, the rules and the verbs; the HTTP side turns it into a `Status` body.

    ApiError                 any refusal, with the code, reason, message and details of its `Status` (PlainError: answered as text)
    FieldError (a value)     one error of one field; `invalid()` gathers them into a 422

Source: kubernetes/apimachinery pkg/api/errors and pkg/util/validation/field (codes, reasons, texts).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from gpuvitals_sim.apiserver.json_types import Obj


class ApiError(Exception):
    """A refusal; `status()` is the body of the answer."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.metadata: Obj = {}

    def status(self) -> Obj:
        """The `Status` object, fields in the order the real server writes them."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body

    @property
    def retry_after_seconds(self) -> int | None:
        """The value of the Retry-After header, or None."""
        seconds = (self.details or {}).get("retryAfterSeconds")
        return int(seconds) if seconds else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One error of one field, as an entry of `details.causes`.

    `late` ones come after the others: the real server finds them in a second pass (declarative validation).
    """

    reason: str
    field: str
    body: str
    late: bool = False

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"

    def cause(self) -> Obj:
        """The entry of `details.causes`."""
        return {"reason": self.reason, "message": self.body, "field": self.field}


def late(error: FieldError) -> FieldError:
    """The same error, listed after the ordinary ones."""
    return replace(error, late=True)


def required(field: str, detail: str = "") -> FieldError:
    """`field` is missing."""
    return _plain("FieldValueRequired", "Required value", field, detail)


def forbidden_field(field: str, detail: str) -> FieldError:
    """`field` may not be set, or may not change."""
    return _plain("FieldValueForbidden", "Forbidden", field, detail)


def too_long(field: str, limit: int, unit: str = "bytes") -> FieldError:
    """A text exceeds its limit."""
    return _plain("FieldValueTooLong", "Too long", field, f"may not be more than {limit} {unit}")


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    """The value is malformed."""
    return _valued("FieldValueInvalid", "Invalid value", field, value, detail)


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    """The value has the wrong JSON type (custom resources)."""
    return _valued("FieldValueTypeInvalid", "Invalid value", field, value, detail)


def not_supported(field: str, value: Any, choices: Iterable[str]) -> FieldError:
    """The value is not one of the choices."""
    listed = ", ".join(_quoted(choice) for choice in choices)
    return _valued("FieldValueNotSupported", "Unsupported value", field, value, f"supported values: {listed}")


def duplicate(field: str, value: Any, detail: str = "") -> FieldError:
    """The value appears twice and must be unique."""
    return _valued("FieldValueDuplicate", "Duplicate value", field, value, detail)


def too_many(field: str, actual: int, limit: int) -> FieldError:
    """A list exceeds its limit of items."""
    return _valued(
        "FieldValueTooMany",
        "Too many",
        field,
        actual,
        f"must have at most {limit} item{'' if limit == 1 else 's'}",
    )


def invalid(group: str, kind: str, name: str, errors: Iterable[FieldError]) -> ApiError:
    """422: all errors in one sentence and as causes."""
    listed = sorted(errors, key=lambda error: error.late)
    texts = list(dict.fromkeys(str(error) for error in listed))
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    head = f"{_qualified(kind, group)} {_quoted(name)} is invalid"
    details: Obj = {"name": name, "group": group, "kind": kind, "causes": [error.cause() for error in listed]}
    return ApiError(422, "Invalid", f"{head}: {joined}" if texts else head, _tidy(details))


def not_found(group: str, resource: str, name: str) -> ApiError:
    """404 for an object."""
    text = f"{_qualified(resource, group)} {_quoted(name)} not found"
    return ApiError(404, "NotFound", text, _about(group, resource, name))


def no_such_path() -> ApiError:
    """404 for a path at which no kind is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, resource: str, name: str) -> ApiError:
    """409 for a create under a taken name."""
    text = f"{_qualified(resource, group)} {_quoted(name)} already exists"
    return ApiError(409, "AlreadyExists", text, _about(group, resource, name))


def conflict(group: str, resource: str, name: str, why: str) -> ApiError:
    """409 for a write against another version than the stored one."""
    text = f"Operation cannot be fulfilled on {_qualified(resource, group)} {_quoted(name)}: {why}"
    return ApiError(409, "Conflict", text, _about(group, resource, name))


def stale(group: str, resource: str, name: str) -> ApiError:
    """409 for a resourceVersion that is no longer the newest."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(group, resource, name, why)


def apply_conflict(message: str, causes: list[Obj]) -> ApiError:
    """409 for a server-side apply that touches fields of another manager."""
    return ApiError(409, "Conflict", message, {"causes": causes})


def forbidden(group: str, resource: str, name: str, why: str) -> ApiError:
    """403: the caller, or the state of the cluster, does not allow it."""
    subject = f"{_qualified(resource, group)} {_quoted(name)}" if name else _qualified(resource, group)
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", _about(group, resource, name))


def unauthorized() -> ApiError:
    """401: the token is unknown."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> ApiError:
    """400: the request is malformed."""
    return ApiError(400, "BadRequest", message)


class PlainError(ApiError):
    """A refusal that is answered as text: no API group is served at this path."""


def no_such_page() -> ApiError:
    """404 for a path below no known group and version."""
    return PlainError(404, "NotFound", "404 page not found\n")


def method_not_allowed(group: str, resource: str, action: str) -> ApiError:
    """405: the kind has no such verb."""
    text = f'{action} is not supported on resources of kind "{_qualified(resource, group)}"'
    return ApiError(405, "MethodNotAllowed", text, _tidy({"group": group, "kind": resource}))


def no_such_method() -> ApiError:
    """405: the path is served, but not for this method."""
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
    )


def not_acceptable(accepted: str) -> ApiError:
    """406: the client accepts no format of this server."""
    text = f"406: Not Acceptable\n\nAvailable representations: {accepted}"
    return ApiError(406, "NotAcceptable", text, {})


def unsupported_media_type(accepted: Iterable[str]) -> ApiError:
    """415: the path does not accept the format of the body."""
    listed = ", ".join(accepted)
    text = (
        "415: Unsupported Media Type"
        if not listed
        else f"the body of the request was in an unknown format - accepted media types include: {listed}"
    )
    return ApiError(415, "UnsupportedMediaType", text, None if listed else {})


def expired(message: str, *, continue_token: str = "") -> ApiError:
    """410: the requested version is compacted; the client lists again, or continues with the token."""
    refusal = ApiError(410, "Expired", message)
    refusal.metadata = {"continue": continue_token} if continue_token else {}
    return refusal


def too_large_version(wanted: int, current: int) -> ApiError:
    """504: the requested version is in the future."""
    text = f"Too large resource version: {wanted}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", f"Timeout: {text}", {"causes": [cause], "retryAfterSeconds": 1})


def too_many_requests(
    message: str, retry_after_seconds: int = 0, causes: list[Obj] | None = None
) -> ApiError:
    """429, as the eviction subresource and flow control answer it."""
    details: Obj = {}
    if causes:
        details["causes"] = causes
    if retry_after_seconds:
        details["retryAfterSeconds"] = retry_after_seconds
    return ApiError(429, "TooManyRequests", message, details)


def unprocessable() -> ApiError:
    """422 without causes: a JSON patch that does not fit the object."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def internal(message: str) -> ApiError:
    """500: the server failed."""
    details = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details)


def _about(group: str, resource: str, name: str) -> Obj:
    return _tidy({"name": name, "group": group, "kind": resource})


def _plain(reason: str, label: str, field: str, detail: str) -> FieldError:
    return FieldError(reason=reason, field=field, body=f"{label}: {detail}" if detail else label)


def _valued(reason: str, label: str, field: str, value: Any, detail: str) -> FieldError:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    body = f"{label}: {text}: {detail}" if detail else f"{label}: {text}"
    return FieldError(reason=reason, field=field, body=body)


def _qualified(name: str, group: str) -> str:
    return f"{name}.{group}" if group else name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _tidy(details: Obj) -> Obj:
    return {key: value for key, value in details.items() if value not in ("", None)}
