"""Memory and time of a replay for large logs."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from support.long_runs import share
from support.saved_logs import xid

_MEGABYTE = 1 << 20
_ALLOWED_KILOBYTES = 24 * 1024
"""Tolerance above the memory of the small log, for the allocator. A log held in memory would need its own size."""
_NOISE = "systemd[1]: Started session 41822 of user root on seat0, with the usual things that are said then"


def stream(size: int) -> Iterator[bytes]:
    """Kernel records of that many bytes: noise, application errors, floods, and faults that are repaired, on 8 GPUs."""
    sequence = sent = 0
    while sent < size:
        lines = []
        for _ in range(4000):
            sequence += 1
            bus = f"0000:{sequence % 8:02x}:00"
            if sequence % 50_000 == 0:
                text = xid(79, bus=bus)
            elif sequence % 50_000 == 20_000:
                text = f"NVRM: GPU at PCI:{bus}: GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71d0{sequence % 8}"
            elif sequence % 50_000 < 200:
                text = xid(45, "pid=7, name=a, Ch 1 caused by previous Xid 79", bus=bus)
            elif sequence % 1000 == 0:
                text = xid(13, "pid=7, name=a, Graphics exception", bus=bus)
            else:
                text = _NOISE
            lines.append(f"4,{sequence},{sequence * 100_000},-;{text}\n")
        block = "".join(lines).encode()
        sent += len(block)
        yield block


def replayed(size: int) -> tuple[int, str]:
    """The peak resident memory of a replay in kB, and its last line of output."""
    command = [sys.executable, "-m", "gpuvitals.cli.main", "replay", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        printed: list[bytes] = []
        reader = threading.Thread(
            target=lambda: printed.append(process.stdout.read()[-20_000:]), name="printed"
        )  # type: ignore[union-attr]  # asserted above
        reader.start()
        for block in stream(size):
            process.stdin.write(block)
        process.stdin.close()
        reader.join(50)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss, printed[0].decode()


def held_to_the_ceiling(size: int) -> None:
    small, _ = replayed(2 * _MEGABYTE)
    large, printed = replayed(size)

    assert large - small < _ALLOWED_KILOBYTES
    assert "would-be isolations: " in printed
    assert "missing records" not in printed


def test_a_log_of_24_megabytes_takes_no_more_memory_than_one_of_2() -> None:
    held_to_the_ceiling(24 * _MEGABYTE)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_log_of_a_gigabyte_takes_no_more_memory_than_one_of_2_megabytes() -> None:
    held_to_the_ceiling(share(1024 * _MEGABYTE))
