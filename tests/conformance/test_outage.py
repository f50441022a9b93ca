"""An outage of the API server while pods start: waiting calls must not block others."""

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest

from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_node import AgentNode, agent_node, serving
from support.worlds.plugin_world import Kubelet, channel

PARKED = 24
SILENCE_SECONDS = 20.0
"""Longer than the agent waits for an answer."""
CALL_SECONDS = 45.0
"""The kubelet's deadline for a call."""


@pytest.fixture
def node() -> Iterator[AgentNode]:
    with serving() as server, agent_node(server) as made:
        yield made


@contextmanager
def outage(server: ApiServer, kind: str) -> Iterator[None]:
    """The API server refuses connections, or accepts them and never answers."""
    with ExitStack() as until:
        if kind == "refused":
            until.enter_context(server.outage())
        else:
            until.callback(server.faults.delay(SILENCE_SECONDS).end)
        yield


def livez(port: int) -> float:
    """The seconds that a good answer to the liveness probe took."""
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10) as answer:
        assert answer.status == 200
    return time.monotonic() - began


def again_and_again(pool: ThreadPoolExecutor, calls: Kubelet, claims: list[dra.Claim], until: float) -> None:
    """Every pod's Prepare, made again as soon as it is refused: no kubelet asks so often."""

    def one(claim: dra.Claim) -> None:
        while time.monotonic() < until:
            with suppress(grpc.RpcError):  # the channel is closed in mid-call at the end
                calls.prepare(claim, timeout=CALL_SECONDS)

    for claim in claims:
        pool.submit(one, claim)


@pytest.mark.parametrize("kind", ["refused", "silent"])
@pytest.mark.parametrize(
    "seconds", [6.0, pytest.param(120.0, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_parked_prepares_hold_up_neither_liveness_nor_unprepare(
    node: AgentNode, seconds: float, kind: str
) -> None:
    """Finding R5."""
    held = [node.hold(f"held-{gpu}", gpu) for gpu in (0, 1)]
    waiting = [node.allocate(f"waiting-{each}", node.name(2 + each % 6)) for each in range(PARKED)]
    port = node.agent.probes()
    with ThreadPoolExecutor(PARKED) as pool, channel(node.endpoint) as opened:
        calls = Kubelet(opened)
        with outage(node.server, kind):
            until = time.monotonic() + seconds
            again_and_again(pool, calls, waiting, until)
            slowest = 0.0
            released: list[float] = []
            while time.monotonic() < until:
                slowest = max(slowest, livez(port))
                if len(released) < len(held) and time.monotonic() > until - seconds / (1 + len(released)):
                    began = time.monotonic()
                    claim = held[len(released)]
                    assert calls.unprepare(claim) == {claim.uid: ""}
                    released.append(time.monotonic() - began)
                # A claim that waits is released too: its pod was deleted.
                assert calls.unprepare(waiting[0]) == {waiting[0].uid: ""}
            assert len(released) == len(held)
            assert max(released) < 2.0
            assert slowest < 1.0
            assert node.agent.process.poll() is None
