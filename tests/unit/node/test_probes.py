"""The probes over a real socket."""

import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from gpuvitals.node.probes import Checks, ProbeServer


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


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
    checks = Checks(live=lambda: "", ready=lambda: "no kubelet has registered this plugin")
    server = ProbeServer(("127.0.0.1", 0), registry, checks)
    server.start()
    try:
        answer = get(server.port, path)
    finally:
        server.stop()

    assert answer[0] == code
    assert said in answer[1]
