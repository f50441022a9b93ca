"""`HttpClient`: JSON over plain HTTP to an API server, with the standard library only.

Place in the chain: the simulated kubelet and scheduler write through it, their informers list and watch through it.
"""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    RemoteDisconnected,
)
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from gpuvitals_sim.apiserver import ApiClient, ApiError
from gpuvitals_sim.apiserver.client import Objects
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import BUILT_IN
from gpuvitals_sim.apiserver.request import MERGE_PATCH, DeleteOptions

JSON = "application/json"

_PAGE = "500"
_TIMEOUT_SECONDS = 10.0
_USER_AGENT = "gpuvitals-sim"
_BROKEN = (RemoteDisconnected, BrokenPipeError, ConnectionResetError)
"""Errors of a kept connection that the server closed meanwhile: the request is sent once more."""
_KINDS = {kind.store_id: kind for kind in reversed(BUILT_IN)}


class Unreachable(ApiError):
    """No answer: the connection was refused or reset, or the deadline is over. Its code is 0."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class HttpClient(ApiClient):
    """`ApiClient` on a server at an http:// URL, for the built-in kinds. Each thread has a connection of its own; `close` before it ends."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port
        self._local = threading.local()

    def get(self, kind: str, name: str, namespace: str = "") -> Obj:
        """Of ApiClient."""
        return self._call("GET", _path(kind, namespace, name))

    def list_with_version(
        self, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        """Of ApiClient. Reads the list in pages."""
        path = _path(kind, namespace)
        items: Objects = []
        query = _selectors(labels, fields) | {"limit": _PAGE}
        while True:
            page = self._call("GET", f"{path}?{urlencode(query)}")
            items += page.get("items") or []
            token = page["metadata"].get("continue", "")
            if not token:
                return items, str(page["metadata"]["resourceVersion"])
            query["continue"] = token

    def create(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """Of ApiClient."""
        metadata = obj.get("metadata") or {}
        name = metadata["name"] if subresource else ""
        return self._call("POST", _path(kind, metadata.get("namespace", ""), name, subresource), obj)

    def update(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """Of ApiClient."""
        metadata = obj["metadata"]
        path = _path(kind, metadata.get("namespace", ""), metadata["name"], subresource)
        return self._call("PUT", path, obj)

    def patch(
        self,
        kind: str,
        ref: tuple[str, str],
        patch: Any,
        *,
        patch_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Obj:
        """Of ApiClient."""
        return self._call("PATCH", _path(kind, *ref, subresource), patch, patch_type)

    def delete(
        self, kind: str, name: str, namespace: str = "", *, options: DeleteOptions | None = None
    ) -> None:
        """Of ApiClient."""
        self._call("DELETE", _path(kind, namespace, name), None if options is None else options.body())

    def watch(
        self, kind: str, *, fields: str, resource_version: str, timeout_seconds: float
    ) -> "WatchStream":
        """The events of one watch in all namespaces, which ends after `timeout_seconds` at the latest.

        Raises ApiError, also while the stream is read.
        """
        seconds = max(1, int(timeout_seconds))
        query = _selectors("", fields) | {
            "resourceVersion": resource_version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        connection = self._connect(seconds + _TIMEOUT_SECONDS)
        try:
            connection.connect()
            connection.request("GET", f"{_path(kind)}?{urlencode(query)}", headers=_headers(JSON))
            response = connection.getresponse()
            if response.status != HTTPStatus.OK:
                raise _refusal(response.status, response.read())
        except (OSError, HTTPException) as error:
            connection.close()
            raise Unreachable(f"watch {kind}: {error}") from error
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

    def _call(self, method: str, path: str, body: Any = None, content_type: str = JSON) -> Obj:
        payload = None if body is None else json.dumps(body).encode()
        status, answer = self._exchange(method, path, payload, content_type)
        if status >= HTTPStatus.BAD_REQUEST:
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
        attempts = 1 if getattr(self._local, "connection", None) is None else 2
        while True:
            attempts -= 1
            try:
                return self._send(method, path, payload, content_type)
            except (OSError, HTTPException) as error:
                self.close()
                if not attempts or not isinstance(error, _BROKEN):
                    raise Unreachable(f"{method} {path}: {error}") from error

    def _send(self, method: str, path: str, payload: bytes | None, content_type: str) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect(_TIMEOUT_SECONDS)
            self._local.connection = connection
        connection.request(method, path, body=payload, headers=_headers(content_type))
        response = connection.getresponse()
        return response.status, response.read()

    def _connect(self, timeout_seconds: float) -> HTTPConnection:
        return HTTPConnection(*self._address, timeout=timeout_seconds)


class WatchStream:
    """Events of one watch, in order, as `{"type": ..., "object": ...}`. `close()` may come from any thread."""

    def __init__(self, connection: HTTPConnection, response: HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._socket: socket.socket | None = connection.sock

    def __iter__(self) -> Iterator[Obj]:
        """Ends with the watch. Raises Unreachable if the connection breaks, and the ApiError of an ERROR event."""
        try:
            while line := self._response.readline():
                if line.strip():
                    yield _checked(json.loads(line))
        except (OSError, HTTPException, ValueError) as error:
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


def _path(kind: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of an object or a collection. Raises KeyError for a kind that is not built in."""
    found = _KINDS[kind]
    scope = ("namespaces", namespace) if namespace and found.namespaced else ()
    root = ("apis", found.group) if found.group else ("api",)
    parts = (*root, found.version, *scope, found.plural, name, subresource)
    return "/" + "/".join(quote(part, safe="") for part in parts if part)


def _headers(content_type: str) -> Mapping[str, str]:
    return {"Accept": JSON, "Content-Type": content_type, "User-Agent": _USER_AGENT}


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in query.items() if value}


def _checked(event: Obj) -> Obj:
    if event["type"] != "ERROR":
        return event
    status = event["object"]
    raise ApiError(
        int(status.get("code", 500)), str(status.get("reason", "")), str(status.get("message", ""))
    )


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
