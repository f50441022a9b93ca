"""The probes over a real socket."""

import logging
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from gpuvitals.node.http_server import Answer, HttpLimits, HttpServer, Page
from gpuvitals.node.probes import ProbeServer
from support.waiting import eventually


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class FixedChecks:
    """A live agent that is not ready; keeps the times of the liveness checks."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def live(self) -> str:
        self.asked.append(time.monotonic())
        return ""

    def ready(self) -> str:
        return "no kubelet has registered this plugin"

    def remark(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/livez", 200, "ok"),
        ("/readyz", 503, "no kubelet has registered this plugin"),
        ("/metrics", 200, "seen_total 1.0"),
        ("/", 404, "/metrics"),
    ],
)
def test_each_path_says_what_it_is_for(path: str, code: int, said: str) -> None:
    registry = CollectorRegistry()
    Counter("seen", "For the test.", registry=registry).inc()
    server = ProbeServer(("127.0.0.1", 0), registry, FixedChecks())
    server.start()
    try:
        answer = get(server.port, path)
    finally:
        server.stop()

    assert answer[0] == code
    assert said in answer[1]


@contextmanager
def serving(
    pages: dict[str, Page], address: tuple[str, int] = ("127.0.0.1", 0), **limits: Any
) -> Iterator[HttpServer]:
    server = HttpServer(address, pages, HttpLimits(**limits))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ok() -> Answer:
    return Answer(code=200, body=b"ok\n")


def raw(port: int, request: bytes) -> bytes:
    """The whole answer to these bytes, after which the server has closed."""
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.sendall(request)
        peer.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.mark.parametrize("host", ["::", ""])
def test_every_address_is_of_both_families(host: str) -> None:
    """Finding R11: on a cluster with IPv6 alone the kubelet could not reach the probe."""
    with serving({"/livez": Page(make=ok)}, (host, 0)) as server:
        for own in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            with socket.create_connection((own, server.port), 5) as peer:
                peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert peer.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_one_address_is_that_one_alone() -> None:
    with serving({"/livez": Page(make=ok)}, ("127.0.0.1", 0)) as server:
        assert get(server.port, "/livez") == (200, "ok\n")
        with pytest.raises(OSError, match="refused|unreachable|Cannot assign"):
            socket.create_connection(("::1", server.port), 5)


def test_a_thousand_slow_peers_cost_no_thread_and_hold_up_no_probe() -> None:
    """Finding R11."""
    with serving({"/livez": Page(make=ok)}, seconds=60.0) as server, ExitStack() as opened:
        before = threading.active_count()
        for number in range(1000):
            peer = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            # A peer that the server has made room for is gone already.
            with suppress(ConnectionError):
                peer.sendall(b"GET /livez HTT")
            if number % 100 == 99:
                began = time.monotonic()
                assert get(server.port, "/livez") == (200, "ok\n")
                assert time.monotonic() - began < 1.0
        assert threading.active_count() == before
        assert len(server._connections) <= 64


def test_peers_that_do_not_read_their_answer_hold_up_no_probe() -> None:
    """Finding R11."""
    page = Page(make=lambda: Answer(code=200, body=b"x" * (8 << 20)))
    with serving({"/metrics": page, "/livez": Page(make=ok)}, seconds=60.0) as server, ExitStack() as opened:
        for _ in range(80):
            peer = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert get(server.port, "/livez") == (200, "ok\n")


def test_a_peer_that_is_slow_is_left_at_its_deadline() -> None:
    with (
        serving({"/livez": Page(make=ok)}, seconds=0.3) as server,
        socket.create_connection(("127.0.0.1", server.port), 5) as peer,
    ):
        peer.sendall(b"GET ")
        began = time.monotonic()
        assert peer.recv(1) == b""
        assert time.monotonic() - began < 4.0


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /livez HTTP/1.1\r\n", id="half-a-request"),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", id="a-whole-one"),
    ],
)
def test_a_peer_that_leaves_makes_no_noise(
    request_: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Finding R11: kubelets and port scanners leave in mid-word; each was a traceback in the log."""
    with serving({"/livez": Page(make=ok)}) as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), 5) as peer:
                # Closed with a reset.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.sendall(request_)
        assert get(server.port, "/livez") == (200, "ok\n")
        eventually(lambda: not server._connections)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert capfd.readouterr().err == ""


def test_liveness_is_asked_once_a_second_however_many_ask() -> None:
    """Finding R11."""
    checks = FixedChecks()
    asked = checks.asked
    server = ProbeServer(("127.0.0.1", 0), CollectorRegistry(), checks)
    server.start()
    try:
        began = time.monotonic()
        while time.monotonic() - began < 1.3:
            assert get(server.port, "/livez") == (200, "ok\n")
    finally:
        server.stop()
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 1.0


def test_requests_for_a_page_that_is_being_made_share_it_and_hold_up_no_other() -> None:
    gate, made = threading.Event(), []

    def slow() -> Answer:
        made.append(1)
        assert gate.wait(10)
        return ok()

    with serving({"/readyz": Page(make=slow), "/livez": Page(make=ok)}) as server:
        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(get, server.port, "/readyz") for _ in range(20)]
            eventually(lambda: len(server._connections) == 20)
            assert get(server.port, "/livez") == (200, "ok\n")
            gate.set()
            assert [each.result(10) for each in waiting] == [(200, "ok\n")] * 20
        assert len(made) <= 2


def test_a_page_that_is_never_made_is_answered_at_the_deadline() -> None:
    gate = threading.Event()

    def hangs() -> Answer:
        gate.wait(10)
        return ok()

    with serving({"/livez": Page(make=hangs)}, seconds=0.2) as server:
        assert get(server.port, "/livez") == (503, "this page takes too long\n")
        gate.set()


def test_a_page_that_raises_is_an_error_and_the_next_one_is_made(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter([ValueError("broken"), None])

    def page() -> Answer:
        error = next(outcomes)
        if error is not None:
            raise error
        return ok()

    with serving({"/metrics": Page(make=page)}) as server:
        assert get(server.port, "/metrics")[0] == 500
        assert get(server.port, "/metrics") == (200, "ok\n")
    assert "page not made" in caplog.messages


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /livez HTTP/1.1\n\n", b"200 OK"),
        (b"POST /livez HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"\x16\x03\x01\x02\x00\n\n", b"400 Bad Request"),
        (b"GET /livez\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
    ],
)
def test_a_request_gets_the_status_it_should(request_: bytes, status: bytes) -> None:
    with serving({"/livez": Page(make=ok)}) as server:
        assert raw(server.port, request_).startswith(b"HTTP/1.1 " + status + b"\r\n")


def test_head_has_no_body() -> None:
    with serving({"/livez": Page(make=ok)}) as server:
        answer = raw(server.port, b"HEAD /livez HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 3\r\n" in answer
