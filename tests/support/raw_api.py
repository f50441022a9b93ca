"""A bare HTTP client for tests, which returns a server's answers without a client library."""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: code, headers by lower-case name, and the JSON object (or the text under `text` if it is none)."""

    status: int
    headers: Mapping[str, str]
    body: Json

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def version(self) -> str:
        """The object's or list's resourceVersion."""
        return str(self.body["metadata"]["resourceVersion"])


class RawApi:
    """A server at `url`; `tls` carries the client's certificate. Each request has its own connection."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, timeout_seconds: float = 20) -> None:
        self._url = urlsplit(url)
        self._tls = tls
        self._timeout_seconds = timeout_seconds

    def get(self, path: str, *, accept: str = JSON, **query: object) -> Answer:
        """Reads `path`; the keywords become the query, booleans as Kubernetes writes them."""
        return self.request("GET", path, query=query, accept=accept)

    def post(self, path: str, body: object, **query: object) -> Answer:
        return self.request("POST", path, query=query, body=body)

    def put(self, path: str, body: object, **query: object) -> Answer:
        return self.request("PUT", path, query=query, body=body)

    def patch(self, path: str, kind: str, body: object, **query: object) -> Answer:
        """Sends a patch whose content type is `kind`."""
        return self.request("PATCH", path, query=query, body=body, content_type=kind)

    def apply(self, path: str, manager: str, body: object, **query: object) -> Answer:
        """Server-side apply as the field manager."""
        return self.patch(path, APPLY_PATCH, body, fieldManager=manager, **query)

    def delete(self, path: str, body: object = None, **query: object) -> Answer:
        return self.request("DELETE", path, query=query, body=body)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Answer:
        """Sends one request; a `str` body goes out as it is, anything else as JSON."""
        connection = self._connect()
        try:
            headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": content_type}
            connection.request(method, _target(path, query), body=_payload(body), headers=headers)
            response = connection.getresponse()
            raw = response.read()
            return Answer(status=response.status, headers=_joined(response.getheaders()), body=_decoded(raw))
        finally:
            connection.close()

    def watch(self, path: str, **query: object) -> "WatchStream":
        """Opens a watch and returns it once the server has answered; use it as a context manager."""
        connection = self._connect()
        connection.request("GET", _target(path, {"watch": True, **query}), headers={"Accept": JSON})
        return WatchStream(connection)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "127.0.0.1", self._url.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_seconds, context=self._tls)


class WatchStream:
    """The events of one watch, in order. Waiting longer than the client's timeout raises TimeoutError."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self.status = self._response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[tuple[str, Json]]:
        """Yields (type, object) until the server ends the stream."""
        while line := self._response.readline():
            event = json.loads(line)
            yield event["type"], event["object"]

    def next(self) -> tuple[str, Json]:
        """Returns the next (type, object); raises EOFError at the stream's end."""
        for event in self:
            return event
        raise EOFError("the server ended the watch")

    def take(self, count: int) -> list[tuple[str, str]]:
        """Returns the next `count` events as (type, object name)."""
        events = [self.next() for _ in range(count)]
        return [(kind, str(item.get("metadata", {}).get("name", ""))) for kind, item in events]


def _joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name; one that comes several times (Warning) is one with commas."""
    joined: dict[str, str] = {}
    for name, value in headers:
        before = joined.get(name.lower())
        joined[name.lower()] = value if before is None else f"{before}, {value}"
    return joined


def _target(path: str, query: Mapping[str, object] | None) -> str:
    pairs = {
        key: str(value).lower() if isinstance(value, bool) else value for key, value in (query or {}).items()
    }
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _payload(body: object) -> bytes | None:
    if body is None:
        return None
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _decoded(raw: bytes) -> Json:
    text = raw.decode()
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"text": text}
