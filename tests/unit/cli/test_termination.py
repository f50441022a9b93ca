"""A process ends at every signal, whenever and however often it comes."""

import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from gpuvitals.cli.termination import SIGNALS, Termination
from support.crash.random_signals import ENDING, bursts, ended, send
from support.long_runs import share

WAITS = """
from gpuvitals.cli.termination import Termination
import threading

with Termination() as termination:
    done = threading.Event()
    termination.on_request(done.set)
    print("ready", flush=True)
    while not done.wait(0.0005) or not termination.requested.wait(0.0005):
        continue
    print("put away", flush=True)
"""
"""Waits as the agent and the demo do, on short waits, so that most instants are inside a lock."""


def test_the_handler_takes_no_lock_that_the_main_thread_can_hold() -> None:
    """Finding S3: the signal comes while the main thread holds the very lock that the event needs."""
    with Termination() as termination:
        done = threading.Event()
        termination.on_request(done.set)
        with done._cond:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not done._flag
        assert done.wait(10)
        assert termination.requested.wait(10)
        assert termination.exit_code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "total", [200, pytest.param(share(2000), marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_signals_at_random_instants_end_a_waiting_process_every_time(total: int) -> None:
    """Finding S3."""
    source = random.Random(total)
    for count in bursts(total, seed=total):
        with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            gaps = [source.uniform(0, 0.003)] + [source.choice([0, 0, 0.0002])] * (count - 1)
            send(process, [source.choice(ENDING) for _ in range(count)], gaps)
            # The last signals of a burst may find the process in the interpreter's own exit.
            assert ended(process, 20) in (0, *(-number for number in ENDING))
            assert process.stdout.read() == b"put away\n"


def test_a_flood_of_signals_blocks_nothing() -> None:
    """Finding S3: more signals than the pipe holds, and nobody has read one yet."""
    with Termination() as termination:
        for _ in range(70_000):
            signal.raise_signal(signal.SIGHUP)
        assert termination.requested.wait(10)


def test_a_signal_before_there_is_something_to_stop_is_handed_on_once() -> None:
    with Termination() as termination:
        signal.raise_signal(signal.SIGINT)
        assert termination.requested.wait(10)
        told: list[str] = []
        termination.on_request(lambda: told.append("stop"))
        signal.raise_signal(signal.SIGINT)
        assert told == ["stop"]
        assert termination.exit_code == 130


def test_signals_go_back_to_who_had_them() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Termination() as termination:
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not termination.requested.is_set()
    assert termination.exit_code == 0


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """nohup gpuvitals demo."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Termination() as termination:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            assert termination.requested.wait(10)
            assert termination.number == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_verb_with_nothing_to_put_away_ends_at_a_signal(number: int) -> None:
    """Finding S3: the replay of a stream that never ends."""
    command = [sys.executable, "-m", "gpuvitals.cli.main", "replay", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        for _ in range(3):
            send(process, [number], [0.1])
        assert ended(process, 20) == -number
