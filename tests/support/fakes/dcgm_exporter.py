"""A DCGM exporter over HTTP, whose answers a test writes: the shapes of the real one, and its ways to go wrong."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_GAUGES = ("_XID_ERRORS", "_ROW_REMAP_FAILURE", "_ROW_REMAP_PENDING", "_REASONS")
"""Ends of the gauges' names; the rest are counters. Source: NVIDIA/dcgm-exporter etc/default-counters.csv."""


class Exporter:
    """`values` are metrics by GPU UUID. Each answer adds to the energy of every GPU that is not in `frozen`.

    `body` is answered in place of metrics; `pause_seconds` is waited after the head of an answer.
    """

    def __init__(self) -> None:
        self.values: dict[str, dict[str, float]] = {}
        self.frozen: set[str] = set()
        self.body: bytes | None = None
        self.status = 200
        self.pause_seconds = 0.0
        self.asked = 0
        self.url = ""
        self.released = threading.Event()

    def answer(self) -> bytes:
        self.asked += 1
        for uuid, values in self.values.items():
            if uuid not in self.frozen:
                values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] = 1_000_000.0 + self.asked
        return exposition(self.values).encode() if self.body is None else self.body


def exposition(values: dict[str, dict[str, float]], **labels: str) -> str:
    """The text as the exporter writes it: one family a metric, one line a GPU."""
    lines = []
    for metric in sorted({name for each in values.values() for name in each}):
        kind = "gauge" if metric.endswith(_GAUGES) else "counter"
        lines += [f"# HELP {metric} As the exporter says.", f"# TYPE {metric} {kind}"]
        for number, (uuid, each) in enumerate(values.items()):
            if metric in each:
                pairs = {
                    "gpu": str(number),
                    "UUID": uuid,
                    "pci_bus_id": f"00000000:{number:02X}:00.0",
                    "device": f"nvidia{number}",
                    "modelName": "NVIDIA H100 80GB HBM3",
                    "Hostname": "node-a",
                    **labels,
                }
                shown = ",".join(f'{key}="{value}"' for key, value in pairs.items())
                lines.append(f"{metric}{{{shown}}} {each[metric]:.0f}")
    return "\n".join(lines) + "\n"


@contextmanager
def exporting() -> Iterator[Exporter]:
    """One that listens on loopback."""
    exporter = Exporter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            body = exporter.answer()
            self.send_response(exporter.status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            exporter.released.wait(exporter.pause_seconds)
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # the name is http.server's
            """Silent: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    exporter.url = f"http://127.0.0.1:{server.server_address[1]}/metrics"
    try:
        yield exporter
    finally:
        exporter.released.set()
        server.shutdown()
        thread.join(5)
        server.server_close()
