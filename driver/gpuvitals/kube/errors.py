"""What can go wrong with an API call, translated once.

ApiError
├── Retryable            busy, unreachable, token expired, a proxy's answer: the same call may go through later
│   └── Conflict         409: somebody else wrote first; read again and rebase
└── Permanent            the same call will fail again
    ├── NotFound         404: also of a path that is not served, or not yet
    │   └── NoSuchObject 404 that names the object
    ├── Gone             410: the watch's place in history is lost; list again
    ├── Refused          403, and the 422 that names a missing permission
    └── Invalid          422 and other 4xx: the body is at fault
"""

import re

import msgspec

from gpuvitals.decode_error import decoded

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


class ApiError(Exception):
    """An API call that failed. `status` is the HTTP code, 0 where no answer came; `reason` is the API's word.

    `fields` are the paths that a validation found at fault: `spec.devices[0].name`.
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
        """What attempts are counted by: the code and the API's word, `unanswered` where there is no code."""
        return f"{self.status} {self.reason}" if self.status else "unanswered"

    @property
    def cause(self) -> str:
        """The error without what differs from call to call: names, ports, times. Equal causes are logged once."""
        if not self.status:
            return "unanswered"
        text = str(self).partition(f": {self.status} ")[2] or str(self)
        return f"{self.status} {_NUMBER.sub('#', _QUOTED.sub('*', text))}"

    @property
    def ambiguous(self) -> bool:
        """Whether a write may have taken effect all the same: no answer came, or the server broke on the way."""
        return self.status == 0 or self.status >= 500


class Retryable(ApiError):
    """May be tried again, not before `retry_after_seconds` where the server said so."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class Conflict(Retryable):
    """409: the object changed, or exists already (`reason` AlreadyExists)."""


class Permanent(ApiError):
    """Trying again will not help until somebody changes something."""


class NotFound(Permanent):
    """404. A server that starts, or a proxy before it, answers so for every path."""


class NoSuchObject(NotFound):
    """404 with the name of the object: it does not exist."""


class Gone(Permanent):
    """410."""


class Refused(Permanent):
    """The caller lacks a right."""


class Invalid(Permanent):
    """The request is at fault; `fields` says where."""


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


def error_from_answer(status: int, body: bytes, retry_after: str | None, what: str) -> ApiError:
    """The error that an answer without a 2xx code is: no redirect is followed.

    `what` names the call: `PUT .../resourceslices/x`.
    """
    try:
        told = decoded(_STATUS, body)
    except msgspec.DecodeError:
        # A proxy's page, or a body cut short.
        told = _Status(message=body[:256].decode(errors="replace"))
    reason, text = told.reason or "", told.message or ""
    message = f"{what}: {status} {reason}: {text}"
    if status == 409:
        return Conflict(message, status=status, reason=reason)
    if status in (401, 408, 429) or status >= 500 or not _is_verdict(status, told.kind):
        # 401: the projected token ran out; the next call reads the file again.
        return Retryable(message, status=status, reason=reason, retry_after_seconds=_seconds(retry_after))
    fields = tuple(cause.field for cause in told.details.causes if cause.field) if told.details else ()
    names_object = told.details is not None and bool(told.details.name)
    kind = _permanent(status, text, names_object=names_object)
    return kind(message, status=status, reason=reason, fields=fields)


def _is_verdict(status: int, kind: str) -> bool:
    """Whether the API server has judged the request. A redirect, or a page without a Status, comes from a proxy.

    A refusal, a missing path and a lost place mean the same from both.
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
