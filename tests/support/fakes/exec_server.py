"""An API server with one node, one agent pod, and `exec` over WebSocket: for answers that no real agent should give."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Source: RFC 6455, section 1.3."""
_STDOUT, _ERROR = 1, 3
"""Channels of the exec protocol. Source: kubernetes/apimachinery pkg/util/remotecommand/constants.go."""

_POD = {
    "metadata": {"name": "agent-x", "namespace": "gpuvitals", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"containers": [{"name": "agent", "args": ["node", "--state-dir=/state"]}]},
    "status": {"phase": "Running"},
}


@dataclass(slots=True, kw_only=True)
class ExecServer:
    """The stored slices, the status of pod lists, and the result of a command. `kubeconfig` names the server.

    `is_cut_short`: the connection of a command ends without its exit code.
    """

    slices: list[dict[str, Any]]
    pods_status: int = 200
    is_cut_short: bool = False
    output: str = "[]"
    exit_code: int = 0
    commands: list[str] = field(default_factory=list)
    kubeconfig: Path = Path()


@contextmanager
def exec_server(folder: Path, settings: ExecServer) -> Iterator[ExecServer]:
    """Serves on loopback until the block ends, and writes the kubeconfig into the folder."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "/exec?" in self.path:
                self._exec()
            elif self.path.startswith("/api/v1/pods"):
                self._list([_POD], settings.pods_status)
            else:
                self._list(settings.slices, 200)

        def _list(self, items: list[dict[str, Any]], status: int) -> None:
            refusal = {"kind": "Status", "reason": "Forbidden", "message": "pods is forbidden"}
            body = json.dumps({"metadata": {}, "items": items} if status == 200 else refusal).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _exec(self) -> None:
            settings.commands.append(self.path)
            self.send_response(101)
            digest = hashlib.sha1(
                (self.headers["Sec-WebSocket-Key"] + _ACCEPT).encode(), usedforsecurity=False
            )
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest.digest()).decode())
            self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
            self.end_headers()
            self._frame(_STDOUT, settings.output)
            if not settings.is_cut_short:
                self._frame(_ERROR, json.dumps(_status(settings.exit_code)))
            self.wfile.write(b"\x88\x00")
            self.close_connection = True

        def _frame(self, channel: int, text: str) -> None:
            payload = bytes([channel]) + text.encode()
            self.wfile.write(b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    settings.kubeconfig = folder / "config"
    settings.kubeconfig.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{server.server_port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
""",
        encoding="utf-8",
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="exec-server")
    thread.start()
    try:
        yield settings
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
