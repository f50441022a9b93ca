"""One HTTP connection: read requests, check, answer, log.

Place in the chain: `server.py` makes one handler per connection, each on its own thread.
"""

import json
import select
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import cast

import msgspec

from gpuvitals_sim.apiserver.access import OWN_REVIEWS
from gpuvitals_sim.apiserver.errors import ApiError, PlainError, internal, no_such_page
from gpuvitals_sim.apiserver.faults import Fault, refusal
from gpuvitals_sim.apiserver.http.dispatch import Answer, answer, read_object_of
from gpuvitals_sim.apiserver.http.listener import Listener
from gpuvitals_sim.apiserver.http.parameters import Parameters
from gpuvitals_sim.apiserver.http.routing import Route, route
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.representation.non_resource import document
from gpuvitals_sim.apiserver.request_log import RequestFacts

_BODY_LIMIT_BYTES = 3 * 1024 * 1024
_IDLE_CHECK_SECONDS = 0.5
_STATUS_CODES = frozenset(int(status) for status in HTTPStatus)


class BrokenError(Exception):
    """The connection has to be closed without an answer (an injected fault, or a client that closed it)."""


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with keep-alive; the base class calls `do_<METHOD>` per request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Serves every HTTP method alike; the base class looks up `do_<METHOD>`."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: requests are recorded in the request log."""

    def _serve(self) -> None:
        began = time.monotonic()
        try:
            request, found, faults = self._understood(began)
            if isinstance(found, ApiError):
                self._refuse(request, found)
            else:
                self._answer(request, found)
            if any(fault.loses_answer for fault in faults):
                raise BrokenError
        except (BrokenError, ConnectionError, TimeoutError):
            self._cut()

    def _understood(self, began: float) -> tuple[RequestFacts, Answer | ApiError, tuple[Fault, ...]]:
        """The request, its answer, and the injected faults. Raises BrokenError if the answer has to be lost."""
        request, chosen, refused = self._facts(began)
        faults = self.server.site.faults.take(request)
        try:
            if refused is not None:
                raise refused
            self.server.site.access.check(request)
            for fault in faults:
                self.server.site.stopping.wait(fault.delay_seconds)
                if fault.status:
                    raise refusal(fault)
            found: Answer | ApiError = self._found(request, chosen)
        except ApiError as error:
            found = error
        except Exception as error:  # noqa: BLE001 - one bad request must not end the server; it is kept and shown
            self.server.site.failures.append(error)
            found = internal(f"{type(error).__name__}: {error}")
        if any(fault.loses_answer for fault in faults):
            self._log(request, 0)
            raise BrokenError
        return request, found, faults

    def _facts(self, began: float) -> tuple[RequestFacts, Route | None, ApiError | None]:
        path, _, query = self.path.partition("?")
        request = RequestFacts(
            method=self.command,
            path=path,
            query=query,
            content_type=self.headers.get("Content-Type") or "",
            body=self._body(),
            user_agent=self.headers.get("User-Agent") or "unknown",
            at_monotonic=began,
        )
        chosen: Route | None = None
        try:
            chosen = route(
                self.server.site.api.catalogue, self.command, path, watching=Parameters.parse(query).watching
            )
            if chosen is not None:
                request = _with_route(request, chosen)
            user = self.server.site.access.user_of(self.headers.get("Authorization") or "")
            return replace(request, user=user), chosen, None
        except ApiError as error:
            return request, chosen, error

    def _found(self, request: RequestFacts, chosen: Route | None) -> Answer:
        accept = self.headers.get("Accept") or "*/*"
        if chosen is not None:
            return answer(self.server.site.api, chosen, request, accept)
        if (request.method, request.path) == ("POST", OWN_REVIEWS):
            return Answer(status=201, body=self.server.site.access.reviewed(request, read_object_of(request)))
        if request.method != "GET":
            raise no_such_page()
        body, content_type = document(self.server.site.api.catalogue, request.path, accept)
        return Answer(status=200, body=body, content_type=content_type)

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _BODY_LIMIT_BYTES:
            raise BrokenError
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunked_body()
        return self.rfile.read(length) if length else b""

    def _chunked_body(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline(8)
        self.rfile.readline(8)
        return b"".join(parts)

    def _answer(self, request: RequestFacts, found: Answer) -> None:
        self._log(request, found.status)
        if found.watch is not None:
            self._stream(found)
            return
        raw = found.body.get("text/plain")
        if isinstance(raw, str):
            self._send(found.status, raw.encode(), "text/plain; charset=utf-8", {})
            return
        warnings = {"Warning": ", ".join(f"299 - {json.dumps(text)}" for text in found.warnings)}
        self._send(
            found.status,
            msgspec.json.encode(found.body),
            found.content_type,
            warnings if found.warnings else {},
        )

    def _refuse(self, request: RequestFacts, error: ApiError) -> None:
        self._log(request, error.code)
        headers = {}
        if error.retry_after_seconds:
            headers["Retry-After"] = str(error.retry_after_seconds)
        if isinstance(error, PlainError):
            self._send(error.code, error.message.encode(), "text/plain; charset=utf-8", headers)
            return
        self._send(error.code, msgspec.json.encode(error.status()), "application/json", headers)

    def _send(self, status: int, body: bytes, content_type: str, headers: dict[str, str]) -> None:
        """Head and body in one write: one packet, no delay."""
        length = {"Content-Length": str(len(body))}
        self.wfile.write(self._head(status, {"Content-Type": content_type, **headers, **length}) + body)

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        phrase = HTTPStatus(status).phrase if status in _STATUS_CODES else "Unknown"
        lines = [
            f"HTTP/1.1 {status} {phrase}",
            "Cache-Control: no-cache, private",
            f"Date: {self.date_time_string()}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _stream(self, found: Answer) -> None:
        watch, renderer = found.watch, found.renderer
        if watch is None or renderer is None:
            return
        faults = self.server.site.faults
        generation = faults.abort_generation
        self.wfile.write(
            self._head(200, {"Content-Type": found.content_type, "Transfer-Encoding": "chunked"})
        )
        render = renderer.events()
        try:
            while not watch.ended and not self.server.site.stopping.is_set():
                event = watch.next(_IDLE_CHECK_SECONDS)
                while not faults.wait_for_flow(_IDLE_CHECK_SECONDS):
                    self._check_client()
                chunks = []
                while event is not None:
                    chunks.append(_chunk(render(event)))
                    event = watch.next(0.0) if len(chunks) < 500 else None
                if chunks:
                    self.wfile.write(b"".join(chunks))
                else:
                    self._check_client()
            if faults.abort_generation != generation:
                raise BrokenError
            self.wfile.write(b"0\r\n\r\n")
        finally:
            watch.close()

    def _check_client(self) -> None:
        """Raise BrokenError if the client has closed, or the server stops while a stream is stalled."""
        if self.server.site.stopping.is_set():
            raise BrokenError
        connection = cast(socket.socket, self.connection)
        readable, _, _ = select.select([connection], [], [], 0)
        if readable and not connection.recv(1, socket.MSG_PEEK):
            raise BrokenError

    def _cut(self) -> None:
        self.close_connection = True
        self.server.cut(self.connection)

    def _log(self, request: RequestFacts, status: int) -> None:
        seconds = time.monotonic() - request.at_monotonic
        self.server.site.requests.add(replace(request, status=status, seconds=seconds))


def _with_route(request: RequestFacts, chosen: Route) -> RequestFacts:
    target = chosen.target
    return replace(
        request,
        verb=chosen.verb,
        group=target.kind.group,
        resource=target.kind.plural,
        subresource=target.subresource,
        namespace=target.namespace,
        name=target.name,
    )


def _chunk(event: Obj) -> bytes:
    line = msgspec.json.encode(event) + b"\n"
    return b"%x\r\n%b\r\n" % (len(line), line)
