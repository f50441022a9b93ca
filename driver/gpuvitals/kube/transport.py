"""The HTTP transport: requests and answers as bytes, over connections that are kept open.

Nothing here throttles: the writers limit the rate of their calls.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import urllib3

from gpuvitals.kube.credentials import ACCOUNT, Access, kubeconfig, plain, pod_account
from gpuvitals.kube.errors import ApiError, Retryable, error_from_answer

JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

_CONNECT_SECONDS = 5.0
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSettings:
    """The way to the API server: a plain `url` (the simulation), a kubeconfig, or neither: the pod's own account.

    `account` is the folder at which the pod's account is mounted, None for the usual one.
    """

    url: str = ""
    kubeconfig: Path | None = None
    account: Path | None = None
    user_agent: str = "gpuvitals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `path` begins with a slash; `query` is encoded here.

    `deadline_seconds` bounds the whole call; for a stream it bounds the silence between two reads.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = JSON
    deadline_seconds: float = 10.0

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class LineStream(Protocol):
    """The lines of a watch."""

    def __iter__(self) -> Iterator[bytes]:
        """Whole lines, none of them empty. Raises ApiError for a broken connection."""
        ...

    def cut(self) -> None:
        """Ends the iterator now, also while it waits. May be called from any thread, at any time."""
        ...


class Transport(Protocol):
    """The calls that writers and reflectors make. Raises ApiError and nothing else."""

    def request(self, call: Call) -> bytes:
        """The body of a 2xx answer."""
        ...

    def stream(self, call: Call) -> AbstractContextManager[LineStream]:
        """A watch, closed with the block."""
        ...


class ApiTransport:
    """Talks to one API server. Thread safe."""

    def __init__(self, access: Access, user_agent: str) -> None:
        self._access = access
        self._agent = user_agent

    def request(self, call: Call) -> bytes:
        """The body of a 2xx answer. Raises ApiError."""
        deadline = time.monotonic() + call.deadline_seconds
        timeout = urllib3.Timeout(
            connect=min(_CONNECT_SECONDS, call.deadline_seconds), total=call.deadline_seconds
        )
        try:
            answer = self._send(call, timeout)
            body = _body(call, answer, deadline)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unanswered(call, error) from error
        if answer.status >= 300:
            raise _failure(call, answer, body)
        return body

    @contextmanager
    def stream(self, call: Call) -> Iterator[LineStream]:
        """The lines of a watch. Raises ApiError, also from the iterator for a broken connection."""
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=call.deadline_seconds)
        try:
            answer = self._send(call, timeout)
            if answer.status >= 300:
                body = answer.read(_CHUNK)
                answer.close()
                raise _failure(call, answer, body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unanswered(call, error) from error
        lines = _Lines(call, answer)
        try:
            yield lines
        finally:
            # Not drained: the connection of a watch is not used again.
            answer.close()

    def close(self) -> None:
        """Closes the idle connections. Later calls raise Retryable."""
        self._access.connections.pool().close()

    def _unanswered(self, call: Call, error: Exception) -> Retryable:
        if isinstance(error, urllib3.exceptions.SSLError):
            self._access.connections.doubt()
        return Retryable(f"{call.method} {call.path}: no answer: {error}")

    def _send(self, call: Call, timeout: urllib3.Timeout) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": JSON, "User-Agent": self._agent}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        authorization = self._access.token.header()
        if authorization:
            headers["Authorization"] = authorization
        return self._access.connections.pool().urlopen(
            call.method,
            self._access.prefix + call.target,
            body=call.body,
            headers=headers,
            timeout=timeout,
            preload_content=False,
            retries=False,
            redirect=False,
        )


def connect(settings: ConnectSettings) -> ApiTransport:
    """A transport with the credentials of `settings`. Raises Permanent for credentials that cannot be loaded."""
    if settings.url:
        access = plain(settings.url)
    elif settings.kubeconfig is not None:
        access = kubeconfig(settings.kubeconfig)
    else:
        access = pod_account(settings.account or ACCOUNT)
    return ApiTransport(access, settings.user_agent)


def object_path(collection: str, name: str) -> str:
    """The path of one object of a collection."""
    return f"{collection}/{quote(name, safe='')}"


class _Lines:
    def __init__(self, call: Call, answer: urllib3.BaseHTTPResponse) -> None:
        self._call = call
        self._answer = answer
        self._is_cut = False

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        try:
            while chunk := self._answer.read1(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line for line in lines if line)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if not self._is_cut:
                raise Retryable(f"{self._call.method} {self._call.path}: stream broke: {error}") from error

    def cut(self) -> None:
        self._is_cut = True
        try:
            self._answer.shutdown()
        except (ValueError, RuntimeError, OSError):
            # Closed already, by its reader or by the server: the iterator ends in any case.
            return


def _body(call: Call, answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The whole body. The socket's timeout bounds one read, the deadline all of them."""
    chunks = []
    while chunk := answer.read1(_CHUNK):
        chunks.append(chunk)
        if time.monotonic() > deadline:
            answer.close()
            raise Retryable(f"{call.method} {call.path}: no whole answer within {call.deadline_seconds} s")
    answer.release_conn()
    return b"".join(chunks)


def _failure(call: Call, answer: urllib3.BaseHTTPResponse, body: bytes) -> ApiError:
    text = f"{call.method} {call.path}"
    return error_from_answer(answer.status, body, answer.headers.get("Retry-After"), text)
