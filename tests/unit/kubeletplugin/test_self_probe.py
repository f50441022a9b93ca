"""Check 50: the liveness probe uses the real sockets, so it fails whenever the kubelet would fail."""

import socket
import time
from dataclasses import replace

import pytest

from gpuvitals.kubeletplugin.self_probe import ProbeError, probe
from gpuvitals.kubeletplugin.sockets import SocketPaths
from support.waiting import eventually
from support.worlds.plugin_world import FAST, World, kubelet, uid_of

QUIET = replace(FAST, watch_seconds=30.0)
"""A lost name is not restored during the test."""


def test_a_plugin_that_serves_answers_also_while_calls_wait(node: World) -> None:
    node.claims.fail = "server away"
    with node.running() as plugin, kubelet(plugin) as calls:
        plugin.probe(1.0)
        answer = calls.prepare(node.allocate(1, 0), timeout=0.5)
        assert answer[uid_of(1)].error
        plugin.probe(1.0)


@pytest.mark.parametrize("lost", ["dra", "registration"])
def test_a_socket_that_is_gone_is_named(node: World, lost: str) -> None:
    with node.running(limits=QUIET) as plugin:
        path = getattr(plugin.paths, lost)
        path.unlink()
        with pytest.raises(ProbeError, match=path.name):
            plugin.probe(1.0)


def test_a_socket_that_never_answers_is_found_in_time(node: World) -> None:
    path = node.directory / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        began = time.monotonic()
        with pytest.raises(ProbeError, match="mute"):
            probe(SocketPaths(dra=path, registration=path), 0.5)
        assert time.monotonic() - began < 2


def test_a_plugin_that_has_stopped_does_not_answer(node: World) -> None:
    with node.running() as plugin:
        eventually(lambda: plugin.publishing())
    with pytest.raises(ProbeError):
        plugin.probe(0.5)
