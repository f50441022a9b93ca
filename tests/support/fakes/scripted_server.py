"""A small HTTP server with scripted answers, byte for byte, for answers that no real API server gives."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. `chunks` are sent one by one, `pause` being called before each; `whole` False cuts the body short."""

    status: int = 200
    chunks: tuple[bytes, ...] = (b"{}",)
    headers: tuple[tuple[str, str], ...] = ()
    pause: Callable[[], object] = lambda: None
    whole: bool = True


@dataclass(slots=True)
class Script:
    """The server's URL, the answer for each request, the requests (method, target, headers), and their ports."""

    url: str
    answer: Callable[[str, str], Answer]
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)


@contextmanager
def scripted(answer: Callable[[str, str], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Script]:
    """Serves `answer(method, target)` on loopback until the block ends."""
    script = Script("", answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            script.peers.add(self.client_address[1])
            script.requests.append((self.command, self.path, dict(self.headers)))
            answer = script.answer(self.command, self.path)
            self.send_response(answer.status)
            for key, value in answer.headers:
                self.send_header(key, value)
            extra = 0 if answer.whole else 64
            self.send_header("Content-Length", str(sum(map(len, answer.chunks)) + extra))
            self.end_headers()
            try:
                for chunk in answer.chunks:
                    answer.pause()
                    self.wfile.write(chunk)
            except OSError:
                return  # the client closed the connection, as the script intends
            self.close_connection = not answer.whole

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    script.url = f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="script")
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
