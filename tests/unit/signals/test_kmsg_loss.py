"""The kernel log reader with lost or repeated records, and with a log that is replaced or removed."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import (
    GapReport,
    InitFailureReport,
    MonitorReport,
    MonitorState,
    Signal,
    XidReport,
)
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.kmsg.log_file import DeviceLog, KernelLog, open_kernel_log
from gpuvitals.signals.kmsg.record_stream import KmsgCounters, RecordStream
from gpuvitals.signals.kmsg.source import KmsgPosition, KmsgSettings, KmsgSource
from support.worlds.nvml_world import Recorder

BOOT = BootId("b")


def xid(sequence: int, code: int) -> bytes:
    return f"4,{sequence},1000,c;NVRM: Xid (PCI:0000:3b:00): {code}, x".encode()


def noise(sequence: int) -> bytes:
    return f"6,{sequence},{1000 + sequence},-;usb 1-1: new device".encode()


def fed(*lines: bytes, resume_after: int | None = None) -> tuple[list[Signal], KmsgCounters]:
    sink = Recorder()
    feed = RecordStream(SystemClock(), sink, resume_after=resume_after, accept_user_facility=False)
    feed.take(lines)
    return sink.signals, feed.counters


def codes(signals: list[Signal]) -> list[int]:
    return [signal.code for signal in signals if isinstance(signal, XidReport)]


def lost(signals: list[Signal]) -> list[int]:
    return [signal.lost for signal in signals if isinstance(signal, GapReport)]


@pytest.mark.parametrize("domain", ["0000", "0001", "10000", "9f02", "c3a1", "f00d"])
def test_a_failed_probe_is_heard_whatever_domain_the_platform_gives_the_gpu(domain: str) -> None:
    """Finding L5: Hyper-V makes PCI domains up, so a bus ID begins with any digit."""
    text = f"nvidia {domain}:00:00.0: probe with driver nvidia failed with error -1"
    signals, _ = fed(noise(1), f"3,2,1002,-;{text}".encode(), noise(3))

    assert [signal.bus_id for signal in signals if isinstance(signal, InitFailureReport)] == [
        f"{domain}:00:00.0"
    ]


class FailingOnce:
    """A device whose first descriptor breaks after a while, as it does when a container loses its device."""

    def __init__(self, *batches: list[bytes] | OSError) -> None:
        self._batches = list(batches)

    def lines(self) -> list[bytes]:
        batch = self._batches.pop(0) if self._batches else []
        if isinstance(batch, OSError):
            raise batch
        return batch

    def wait(self, seconds: float, wake: int) -> None:
        time.sleep(0.01)

    def close(self) -> None:
        pass


@contextmanager
def reading(path: Path, logs: list[KernelLog] | None = None) -> Iterator[tuple[KmsgSource, Recorder]]:
    sink = Recorder()
    opened = (lambda _: logs.pop(0)) if logs else open_kernel_log
    source = KmsgSource(KmsgSettings(path=path, boot_id=BOOT), SystemClock(), sink, opened)
    source.start()
    try:
        yield source, sink
    finally:
        source.stop(5)


def test_a_repeated_number_is_dropped() -> None:
    signals, counters = fed(xid(1, 79), xid(1, 79), noise(2), noise(2), xid(3, 43))

    assert codes(signals) == [79, 43]
    assert (counters.duplicates, counters.records) == (2, 3)


def test_a_step_backwards_resets_the_reader() -> None:
    signals, counters = fed(noise(10), xid(3, 79), xid(4, 43))

    assert codes(signals) == [79, 43]
    assert lost(signals) == []
    assert counters.resets == 1


def test_a_gap_of_two_to_the_64_costs_nothing() -> None:
    signals, counters = fed(noise(1), xid(2**64 - 1, 43))

    assert lost(signals) == [2**64 - 3]
    assert counters.gaps == 1


def test_a_gap_between_harmless_records_is_seen_too() -> None:
    signals, _ = fed(noise(1), noise(2), noise(9))

    assert lost(signals) == [6]


def test_a_gap_across_a_restart_is_seen() -> None:
    """The ring was overwritten while no agent ran."""
    signals, _ = fed(noise(20), resume_after=10)

    assert lost(signals) == [9]


def test_many_malformed_lines_ask_for_one_new_reading() -> None:
    signals, counters = fed(
        *(b"6,%d,1,-;NVRM: Xid (PCI:[42]: segfault at 0" % number for number in range(500))
    )

    assert lost(signals) == [1]
    assert counters.malformed == 500


def test_driver_load_lines_in_three_records_are_joined_across_noise() -> None:
    signals, _ = fed(
        b"4,1,1,c;NVRM: The NVIDIA GPU 0000:af:00.0",
        noise(2),
        b"4,3,1,c;NVRM: fallen off the bus and is not responding to commands.",
    )

    assert [getattr(signal, "bus_id", "") for signal in signals] == ["0000:af:00.0"]


def test_a_time_stamp_in_the_future_is_now() -> None:
    before = SystemClock().now()
    signals, _ = fed(b"4,1,%d,c;NVRM: Xid (PCI:0000:3b:00): 79, x" % (2**63))
    after = SystemClock().now()

    assert before.at <= signals[0].seen.at <= after.at


def test_one_read_of_the_device_is_one_record(tmp_path: Path) -> None:
    """A packet socket has the device's manners: one record a read, EAGAIN when there is none."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, ours:
        ours.setblocking(False)
        log = DeviceLog(os.dup(ours.fileno()))
        kernel.send(xid(1, 79) + b"\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n")
        with reading(tmp_path, [log]) as (source, sink):
            sink.wait(XidReport, lambda report: report.code == 79)
            kernel.send(xid(2, 43) + b"\n")
            sink.wait(XidReport, lambda report: report.code == 43)

    assert source.counters.malformed == 0
    assert source.position == KmsgPosition(boot_id=BOOT, sequence=2)


def test_a_device_that_breaks_is_opened_again_and_nothing_is_reported_twice(tmp_path: Path) -> None:
    ring = [xid(1, 79), xid(2, 43)]
    logs: list[KernelLog] = [
        FailingOnce(ring, OSError(errno.EIO, "Input/output error")),
        FailingOnce([*ring, xid(3, 94)]),
    ]
    with reading(tmp_path, logs) as (_, sink):
        sink.wait(XidReport, lambda report: report.code == 94)
        states = [signal.state for signal in sink.signals if isinstance(signal, MonitorReport)]

    assert codes(sink.signals) == [79, 43, 94]
    assert states == [MonitorState.WATCHING, MonitorState.UNREADABLE, MonitorState.WATCHING]


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(7, 79) + b"\n")
    with reading(path) as (_, sink):
        sink.wait(XidReport)
        fresh = tmp_path / "fresh"
        fresh.write_bytes(xid(0, 94) + b"\n")
        fresh.replace(path)
        sink.wait(XidReport, lambda report: report.code == 94)


def test_a_log_that_ends_before_the_remembered_record_is_another_log(tmp_path: Path) -> None:
    """Same boot, lower numbers: rather report a fault again than never."""
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79) + b"\n")
    sink = Recorder()
    resume = KmsgPosition(boot_id=BOOT, sequence=500)
    source = KmsgSource(KmsgSettings(path=path, boot_id=BOOT, resume=resume), SystemClock(), sink)
    source.start()
    try:
        sink.wait(XidReport)
    finally:
        source.stop(5)

    assert source.position == KmsgPosition(boot_id=BOOT, sequence=1)


def test_a_log_that_appears_late_is_found(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    with reading(path) as (_, sink):
        sink.wait(MonitorReport, lambda report: report.state is MonitorState.UNREADABLE)
        path.write_bytes(xid(1, 79) + b"\n")
        sink.wait(XidReport)


def test_overwritten_and_oversized_records_are_a_counted_gap_and_no_skip_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EPIPE: records were overwritten under us. EINVAL: one did not fit. The device has moved on in either case."""
    device = -7
    script: list[bytes | OSError] = [
        xid(1, 79) + b"\n",
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        xid(9, 48) + b"\n",
        OSError(errno.EINVAL, "Invalid argument"),
        xid(11, 43) + b"\n",
        BlockingIOError(errno.EAGAIN, "again"),
    ]
    real = os.read

    def read(file: int, size: int) -> bytes:
        if file != device:
            return real(file, size)
        answer = script.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "read", read)
    lines = DeviceLog(device).lines()
    monkeypatch.undo()
    signals, counters = fed(*lines)

    assert codes(signals) == [79, 48, 43]
    assert lost(signals) == [7, 1]
    assert (counters.gaps, counters.lost) == (2, 8)


def test_a_device_that_fails_otherwise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: int, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(OSError, match="Input/output"):
        DeviceLog(-7).lines()
    monkeypatch.undo()
