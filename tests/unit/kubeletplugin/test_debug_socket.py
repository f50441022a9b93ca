"""The debug socket: answers, bounds, and invalid requests."""

import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.kubeletplugin.debug_socket import FILE, DebugError, DebugSocket, ask
from support.worlds.plugin_world import World


class Responder:
    """Answers as requested, or with a fixed value."""

    def __init__(self, fixed: object = None) -> None:
        self._fixed = fixed

    def answer(self, request: Mapping[str, object]) -> object:
        match request.get("ask"):
            case "snapshot":
                return {"revision": 7}
            case "big":
                return "x" * (2 << 20)
            case "broken":
                raise RuntimeError("no such station")
            case None if self._fixed is not None:
                return self._fixed
            case _:
                raise ValueError(f"unknown question {request.get('ask')}")


@contextmanager
def served(directory: Path) -> Iterator[Path]:
    debug = DebugSocket(directory, Responder())
    debug.start()
    try:
        yield directory / FILE
    finally:
        debug.stop()


def test_question_gets_its_answer(node: World) -> None:
    with served(node.directory) as path:
        assert ask(path, {"ask": "snapshot"}) == {"revision": 7}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize(
    ("question", "problem"),
    [("other", "unknown question other"), ("big", "ask for one GPU"), ("broken", "no such station")],
)
def test_request_that_cannot_be_answered_is_refused_with_the_reason(
    node: World, question: str, problem: str
) -> None:
    with served(node.directory) as path:
        with pytest.raises(DebugError, match=problem):
            ask(path, {"ask": question})
        assert ask(path, {"ask": "snapshot"}) == {"revision": 7}


@pytest.mark.parametrize(
    "sent", [b"not json\n", b"[1]\n", b"x" * 5000 + b"\n", b'{"ask": "snap', b"[" * 4000 + b"\n"]
)
def test_garbage_ends_that_caller_only(node: World, sent: bytes) -> None:
    with served(node.directory) as path:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(os.fspath(path))
            caller.sendall(sent)
            caller.shutdown(socket.SHUT_WR)
            caller.settimeout(5)
            reply = caller.recv(65536)
        assert reply == b"" or b"error" in reply
        assert ask(path, {"ask": "snapshot"}) == {"revision": 7}


def test_absent_agent_is_one_clear_error(node: World) -> None:
    with pytest.raises(DebugError, match="is the agent running on this node"):
        ask(node.directory / FILE, {"ask": "snapshot"})


def test_newer_instance_takes_the_name_and_the_older_leaves_it(node: World) -> None:
    with served(node.directory) as path:
        older = DebugSocket(node.directory, Responder())
        newer = DebugSocket(node.directory, Responder("newer"))
        older.start()
        newer.start()
        older.stop()
        assert ask(path, {}) == "newer"
        newer.stop()
        assert not path.exists()


def test_plugin_serves_it_once_attached(node: World) -> None:
    plugin = node.plugin()
    plugin.start()
    try:
        plugin.attach(node.ports(debug=Responder()))
        assert ask(plugin.settings.data_directory / FILE, {"ask": "snapshot"}) == {"revision": 7}
    finally:
        plugin.stop(1.0)
    assert not [
        thread.name for thread in threading.enumerate() if thread.name.startswith("kubeletplugin-debug")
    ]
