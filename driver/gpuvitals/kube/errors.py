"""Errors of API calls, translated once from HTTP answers.

ApiError
├── Retryable            busy, unreachable, token expired, a proxy's answer: the same call may succeed later
│   └── Conflict         409: another client wrote first; read again and rebase
└── Permanent            the same call will fail again
    ├── NotFound         404: also for a path that is not served, or not yet
    │   └── NoSuchObject 404 that names the object
    ├── Gone             410: the server no longer has the watch's resourceVersion; list again
    ├── Refused          403, and the 422 that names a missing permission
    └── Invalid          422 and other 4xx: the body is at fault
"""

import re

import msgspec

from gpuvitals.decode_error import decoded

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


class ApiError(Exception):
    """A failed API call. `status` is the HTTP code, 0 without an answer; `reason` is the API's reason code.

    `fields` are the paths that the validation found at fault: `spec.devices[0].name`.
    """

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.fields = fields

    @property
    def kind(self) -> str:
        """The key by which attempts are counted: code and reason, or `unanswered`."""
        return f"{self.status} {self.reason}" if self.status else "unanswered"

    @property
    def cause(self) -> str:
        """The error without the parts that differ between calls: names, ports, times. Equal causes are logged once."""
        if not self.status:
            return "unanswered"
        text = str(self).partition(f": {self.status} ")[2] or str(self)
        return f"{self.status} {_NUMBER.sub('#', _QUOTED.sub('*', text))}"

    @property
    def ambiguous(self) -> bool:
        """Whether a write may have taken effect nevertheless: without an answer, or after a server error."""
        return self.status == 0 or self.status >= 500


class Retryable(ApiError):
    """The call may be retried, not before `retry_after_seconds` if the server named that time."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class Conflict(Retryable):
    """409: the object has changed, or exists already (`reason` AlreadyExists)."""


class Permanent(ApiError):
    """A retry will fail until the request, the rights or the server change."""


class NotFound(Permanent):
    """404. A server that starts, or a proxy in front of it, answers so for every path."""


class NoSuchObject(NotFound):
    """404 with the name of the object: it does not exist."""


class Gone(Permanent):
    """410."""


class Refused(Permanent):
    """The caller lacks a right."""


class Invalid(Permanent):
    """The request is at fault; `fields` has the paths."""


class _Cause(msgspec.Struct):
    field: str = ""


class _Details(msgspec.Struct):
    name: str = ""
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    kind: str = ""
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)


def error_from_answer(status: int, body: bytes, retry_after: str | None, call: str) -> ApiError:
    """The error for an answer without a 2xx code; redirects are errors too.

    `call` is the text of the call: `PUT .../resourceslices/x`.
    """
    try:
        answer = decoded(_STATUS, body)
    except msgspec.DecodeError:
        # A proxy's page, or a body cut short.
        answer = _Status(message=body[:256].decode(errors="replace"))
    reason, text = answer.reason or "", answer.message or ""
    message = f"{call}: {status} {reason}: {text}"
    if status == 409:
        return Conflict(message, status=status, reason=reason)
    if status in (401, 408, 429) or status >= 500 or not _is_verdict(status, answer.kind):
        # 401: the projected token ran out; the next call reads the file again.
        return Retryable(message, status=status, reason=reason, retry_after_seconds=_seconds(retry_after))
    fields = tuple(cause.field for cause in answer.details.causes if cause.field) if answer.details else ()
    names_object = answer.details is not None and bool(answer.details.name)
    kind = _permanent(status, text, names_object=names_object)
    return kind(message, status=status, reason=reason, fields=fields)


def _is_verdict(status: int, kind: str) -> bool:
    """Whether the API server has judged the request. A redirect, or a page without a Status, comes from a proxy.

    A 403, 404 or 410 means the same from both.
    """
    return status in (403, 404, 410) or (status >= 400 and kind == "Status")


def _permanent(status: int, text: str, *, names_object: bool) -> type[Permanent]:
    if status == 403 or (status == 422 and "requires resource=" in text):
        # A missing synthetic verb of claim status is answered with 422, not with 403 (seen on 1.37.2).
        return Refused
    kinds: dict[int, type[Permanent]] = {404: NoSuchObject if names_object else NotFound, 410: Gone}
    return kinds.get(status, Invalid)


def _seconds(retry_after: str | None) -> float | None:
    return (
        float(retry_after)
        if retry_after is not None and retry_after.isascii() and retry_after.isdigit()
        else None
    )
