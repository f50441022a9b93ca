"""The demo as a process: its exit code and its output."""

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gpuvitals_sim.scenario import builtin_names, load_builtin
from support.waiting import eventually
from support.worlds.demo_process import GPUVITALS, kept, played, verb_output

HEAD = "name: own\ndescription: d\nnodes: {count: 1, gpus: 2}\nsteps:\n- title: t\n  do:\n"
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal on stdin its own, then becomes the command: closing the terminal hangs it up."""


@pytest.mark.timeout(160)
@pytest.mark.parametrize("name", builtin_names())
def test_every_shipped_scenario_holds(name: str) -> None:
    ended = played("--scenario", name)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert f"expectations of {len(load_builtin(name).steps)} steps held" in ended.stdout.splitlines()[-1]


def test_an_expectation_that_does_not_hold_ends_it_with_1_and_the_agents_log(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        HEAD
        + "  - expect: {registered: {node: 0}, within: 60s}\n"
        + "  - expect: {slices: {node: 0, devices: 2}, within: 60s}\n"
        + "  - expect: {slices: {node: 0, devices: 3}, within: 200ms}\n"
        + "  - expect: {slices: {node: 0, devices: 1}}\n"
    )
    ended = played("--scenario", str(file))

    assert ended.returncode == 1
    assert "node-0 publishes 3 devices" in ended.stdout
    assert "an expectation of step 1 did not hold" in ended.stdout
    assert "registered with the kubelet" in ended.stdout
    assert "node-0 publishes 1 devices" not in ended.stdout


def test_a_kept_demo_takes_a_fault_shows_it_and_ends_clean(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + "  - expect: {slices: {node: 0, devices: 2}, within: 15s}\n")
    with kept("--scenario", str(file)) as (process, folder):
        verb_output(["inject", "--demo", str(folder), "xid", "--gpu", "1", "--code", "95"], folder)
        deadline = time.monotonic() + 10
        while "Xid95" not in (shown := verb_output(["status"], folder)):
            assert time.monotonic() < deadline, shown
        agent = str(folder / "node-0" / "plugins" / "gpu.vitals.internal")
        explained = verb_output(["explain", "--agent", agent, "gpu-0000-43-00-0"], folder)
        agents = _running_below(folder)
        process.send_signal(signal.SIGTERM)

        assert process.wait(15) == 0
        for station in (
            "Xid95, first",
            "class A",
            "unhealthy=Xid95:NoSchedule",
            "no claim is prepared with it",
        ):
            assert station in explained
        assert agents
        assert _running_below(folder) == []
        assert not folder.exists()


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param((signal.SIGTERM,), id="once"),
        pytest.param((signal.SIGTERM,) * 5, id="in-a-burst"),
        pytest.param((signal.SIGHUP,) * 2, id="hangup"),
    ],
)
def test_a_demo_that_is_terminated_in_mid_play_leaves_nothing_behind(
    tmp_path: Path, signals: tuple[int, ...]
) -> None:
    """Finding S3."""
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + "  - wait: 1m\n  - expect: {slices: {node: 0, devices: 2}}\n")
    with subprocess.Popen(
        [*GPUVITALS, "demo", "--scenario", str(file)], stdout=subprocess.DEVNULL
    ) as process:
        found = eventually(lambda: _agents_of(process.pid), 60)
        folder = _demo_folder(found[0])
        assert _running_below(folder)
        for number in signals:
            process.send_signal(number)

        assert process.wait(20) == 128 + signals[0]
    assert _running_below(folder) == []
    assert not folder.exists()


def test_a_demo_whose_terminal_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    """Finding S3, Finding D2."""
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + "  - wait: 1m\n  - expect: {slices: {node: 0, devices: 2}}\n")
    ours, its = pty.openpty()
    command = [*GPUVITALS, "demo", "--scenario", str(file)]
    with subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *command],
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as process:
        os.close(its)
        found = eventually(lambda: _agents_of(process.pid), 60)
        folder = _demo_folder(found[0])
        os.close(ours)

        assert process.wait(20) == 128 + signal.SIGHUP
    assert _running_below(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_demo_says_at_once_that_an_agent_has_ended(tmp_path: Path, number: signal.Signals) -> None:
    """Finding S2: with the signal, and the end of the log, long before its time for the expectation is over."""
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + "  - expect: {slices: {node: 0, devices: 3}, within: 2m}\n")
    with subprocess.Popen(
        [*GPUVITALS, "demo", "--scenario", str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        agents = eventually(lambda: _pids_of_agents(process.pid), 60)
        os.kill(agents[0], number)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert f"the agent of node-0 ended by {number.name}" in output
    assert "the end of the log of the agent of node-0" in output


def test_a_kept_demo_says_that_an_agent_has_ended_and_stays_up(tmp_path: Path) -> None:
    """Finding S2: nobody waits for anything then."""
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + "  - expect: {slices: {node: 0, devices: 2}, within: 15s}\n")
    with kept("--scenario", str(file)) as (process, _):
        os.kill(_pids_of_agents(process.pid)[0], signal.SIGKILL)
        assert process.stdout is not None
        seen = next(line for line in process.stdout if "ended by" in line)

        assert seen == "the agent of node-0 ended by SIGKILL; the end of its log:\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_inject_sees_that_no_demo_runs(tmp_path: Path) -> None:
    """Finding D2, also with the folder of a killed demo."""
    folder = tmp_path / "gv-demo-x"
    folder.mkdir()
    (folder / "kubeconfig").touch()
    arguments = [*GPUVITALS, "inject", "--demo", str(folder), "xid", "--gpu", "0", "--code", "79"]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert f"--demo {folder}: no demo runs there; its folder was left behind" in ended.stderr
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    arguments = [*GPUVITALS, "inject", "xid", "--gpu", "0", "--code", "79"]
    ended = subprocess.run(
        arguments, capture_output=True, text=True, timeout=30, check=False, env=environment
    )
    assert ended.returncode == 2
    assert "none runs; start one with" in ended.stderr


def test_a_demo_works_in_the_deepest_folder_that_it_takes(tmp_path: Path) -> None:
    """Finding P7: agents give their sockets short names there."""
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + "  - expect: {slices: {node: 0, devices: 2}, within: 15s}\n")
    with tempfile.TemporaryDirectory(prefix="d" * 16, dir="/tmp") as deep:
        assert len(f"{deep}/gv-demo-12345678") == 46
        ended = played("--scenario", str(file), TMPDIR=deep)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_folder_too_deep_for_sockets_is_refused_and_not_left_behind(tmp_path: Path) -> None:
    ended = played("--scenario", "walk", TMPDIR=str(tmp_path))

    assert ended.returncode == 2
    assert re.search(r"\$TMPDIR: its path is \d+ bytes too long", ended.stderr)
    assert list(tmp_path.iterdir()) == []


def _demo_folder(state_directory: str) -> Path:
    return next(each for each in Path(state_directory).parents if each.name.startswith("gv-demo-"))


def _agents_of(demo: int) -> list[str]:
    """State directories of the agents that are children of the demo."""
    return [directory for parent, directory in _agents() if parent == demo]


def _pids_of_agents(demo: int) -> list[int]:
    """Process ids of the agents that are children of the demo."""
    return [pid for pid, parent, _ in _agent_processes() if parent == demo]


def _running_below(folder: Path) -> list[str]:
    """State directories of the agents that were started for this folder."""
    return [directory for _, directory in _agents() if folder in Path(directory).parents]


def _agents() -> list[tuple[int, str]]:
    """The parent and the state directory of every agent on this machine."""
    return [(parent, directory) for _, parent, directory in _agent_processes()]


def _agent_processes() -> list[tuple[int, int, str]]:
    """Process id, parent and state directory of every agent on this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended while we looked
            continue
        if "--state-dir" in words:
            found.append((int(entry.name), parent, words[words.index("--state-dir") + 1]))
    return found
