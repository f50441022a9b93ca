"""The smallest client the simulated kubelet and scheduler need: JSON over HTTP to an embedded or a real API server.

Place in the chain: `informer.py` lists and watches through it; the kubelet and the scheduler write through it. It keeps
one connection a thread. Objects are plain JSON dicts, as the server sent them.
"""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]
Query = dict[str, str]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_REDIALS = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class ApiError(Exception):
    """The API server refused; `code` is the HTTP code, `reason` the machine-readable reason."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class Unreachable(ApiError):
    """No answer at all: refused, reset, or late."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the API server is and how to speak to it. `url` is http:// or https://; `token` a bearer token."""

    url: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    timeout_seconds: float = 10.0
    user_agent: str = "gpuvitals-sim"


class Rest:
    """Requests against one API server. Thread safe: each thread has a connection of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._parts = urlsplit(endpoint.url)
        self._local = threading.local()

    def get(self, path: str, query: Query | None = None) -> Json:
        """The object or list at `path`. Raises ApiError."""
        return self._call("GET", path, None, query)

    def create(self, path: str, body: Json) -> Json:
        """The created object; also for the `binding` and `eviction` subresources. Raises ApiError."""
        return self._call("POST", path, body)

    def replace(self, path: str, body: Json) -> Json:
        """The object as stored; a stale resourceVersion raises ApiError with code 409."""
        return self._call("PUT", path, body)

    def patch(self, path: str, body: Json, content_type: str = STRATEGIC_PATCH) -> Json:
        """The patched object. Raises ApiError."""
        return self._call("PATCH", path, body, None, content_type)

    def delete(self, path: str, body: Json | None = None) -> Json:
        """What the server answers to the deletion. Raises ApiError; code 404 where there is no such object."""
        return self._call("DELETE", path, body)

    def watch(self, path: str, query: Query, timeout_seconds: float) -> "WatchStream":
        """The events of one watch, which ends after `timeout_seconds` at the latest. Raises ApiError, also while read."""
        seconds = max(1, int(timeout_seconds))
        wanted = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        connection = self._connect(seconds + self.endpoint.timeout_seconds)
        try:
            connection.connect()
            connection.request("GET", _path(path, wanted), headers=self._headers(JSON))
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise _refusal(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(f"watch {path}: {error}") from error
        except ApiError:
            connection.close()
            raise
        return WatchStream(connection, response)

    def close(self) -> None:
        """Closes the calling thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _call(
        self, method: str, path: str, body: Json | None, query: Query | None = None, content_type: str = JSON
    ) -> Json:
        payload = None if body is None else json.dumps(body).encode()
        status, answer = self._exchange(method, _path(path, query or {}), payload, content_type)
        if status >= http.client.BAD_REQUEST:
            raise _refusal(status, answer)
        try:
            decoded = json.loads(answer) if answer else {}
        except ValueError as error:
            raise Unreachable(f"{method} {path}: the answer is not JSON") from error
        return decoded if isinstance(decoded, dict) else {}

    def _exchange(
        self, method: str, path: str, payload: bytes | None, content_type: str
    ) -> tuple[int, bytes]:
        """One request; a kept connection that the server had closed meanwhile is dialled once more."""
        fresh = getattr(self._local, "connection", None) is None
        try:
            return self._send(method, path, payload, content_type)
        except _REDIALS as error:
            self.close()
            if fresh:
                raise Unreachable(f"{method} {path}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{method} {path}: {error}") from error
        try:
            return self._send(method, path, payload, content_type)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{method} {path}: {error}") from error

    def _send(self, method: str, path: str, payload: bytes | None, content_type: str) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect(self.endpoint.timeout_seconds)
            self._local.connection = connection
        connection.request(method, path, body=payload, headers=self._headers(content_type))
        response = connection.getresponse()
        return response.status, response.read()

    def _connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=self.endpoint.tls)
        return http.client.HTTPConnection(host, port, timeout=timeout_seconds)

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": self.endpoint.user_agent}
        if self.endpoint.token:
            headers["Authorization"] = f"Bearer {self.endpoint.token}"
        return headers


class WatchStream:
    """Events of one watch, in order, as `{"type": ..., "object": ...}`. `close()` may come from any thread."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._socket: socket.socket | None = connection.sock

    def __iter__(self) -> Iterator[Json]:
        """Ends with the watch. Raises Unreachable where it breaks; an ERROR event raises its ApiError."""
        try:
            while line := self._response.readline():
                if line.strip():
                    yield _checked(json.loads(line))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"watch broken: {error}") from error
        finally:
            self._response.close()
            self._connection.close()

    def close(self) -> None:
        """Ends the iteration, also one that waits in another thread."""
        if self._socket is None:
            return
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already closed by the reader or the server


def _checked(event: Json) -> Json:
    if event["type"] != "ERROR":
        return event
    status = event["object"]
    raise ApiError(
        int(status.get("code", 500)), str(status.get("reason", "")), str(status.get("message", ""))
    )


def _path(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _refusal(status: int, body: bytes) -> ApiError:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    return ApiError(
        status, str(answer.get("reason", "")), str(answer.get("message", body[:200].decode(errors="replace")))
    )
