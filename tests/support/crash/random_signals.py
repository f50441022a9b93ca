"""Sends signals to processes at random instants, and sees that each process ends."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def bursts(total: int, seed: int) -> list[int]:
    """How many signals each process gets: half of the signals come alone, half in bursts of 2 to 8."""
    source = random.Random(seed)
    planned = [1] * (total // 2)
    while sum(planned) < total:
        planned.append(min(source.randint(2, 8), total - sum(planned)))
    source.shuffle(planned)
    return planned


def send(process: "subprocess.Popen[bytes]", signals: Sequence[int], gaps_seconds: Sequence[float]) -> None:
    """Sends each signal after its gap, while the process is there."""
    for number, gap in zip(signals, gaps_seconds, strict=True):
        time.sleep(gap)
        if process.poll() is not None:
            return
        os.kill(process.pid, number)


def ended(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """The exit status; a process that lives on is killed and fails the test."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        raise AssertionError(f"process {process.pid} did not end within {seconds} s of its signals") from None
