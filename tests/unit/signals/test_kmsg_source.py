"""The reader of the kernel log, on real files and FIFOs."""

import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import GapReport, MonitorReport, MonitorState, Signal, XidReport
from gpuvitals.signals.clock import SystemClock, boot_id
from gpuvitals.signals.kmsg.source import KmsgPosition, KmsgSettings, KmsgSource

BOOT = BootId("b")


class Sink:
    """Keeps what a source puts."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Signal] = queue.Queue()

    def put(self, signal: Signal) -> None:
        self.queue.put(signal)

    def next(self) -> Signal:
        return self.queue.get(timeout=5)

    def rest(self) -> list[Signal]:
        time.sleep(0.1)
        return [self.queue.get() for _ in range(self.queue.qsize())]


def xid(sequence: int, code: int, priority: int = 4) -> bytes:
    return f"{priority},{sequence},{1000 + sequence},c;NVRM: Xid (PCI:0000:3b:00): {code}, x\n".encode()


@contextmanager
def reading(path: Path, **settings: object) -> Iterator[tuple[KmsgSource, Sink]]:
    sink = Sink()
    base = KmsgSettings(path=path, boot_id=BOOT)
    source = KmsgSource(replace(base, **settings), SystemClock(), sink)  # type: ignore[arg-type]  # names checked by replace()
    source.start()
    try:
        yield source, sink
    finally:
        source.stop(5)


def codes(signals: list[Signal]) -> list[int]:
    return [signal.code for signal in signals if isinstance(signal, XidReport)]


def test_a_file_is_read_from_its_start_and_followed_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79))
    with reading(path) as (source, sink):
        first = [sink.next(), sink.next()]
        with path.open("ab") as file:
            file.write(xid(2, 94))
        second = sink.next()

    assert isinstance(first[0], MonitorReport)
    assert codes([*first, second]) == [79, 94]
    assert source.position == KmsgPosition(boot_id=BOOT, sequence=2)


def test_a_fifo_is_read_across_writers(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    with reading(path) as (_, sink):
        assert isinstance(sink.next(), MonitorReport)
        for sequence in (1, 2):
            with path.open("wb") as writer:
                writer.write(xid(sequence, 79))
            assert codes([sink.next()]) == [79]


def test_a_jump_in_the_sequence_is_a_counted_gap(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79) + xid(12, 94))
    with reading(path) as (source, sink):
        signals = [sink.next() for _ in range(4)]

    gaps = [signal.lost for signal in signals if isinstance(signal, GapReport)]
    assert gaps == [10]
    assert source.counters.lost == 10


def test_a_resumed_reader_reports_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79) + xid(2, 94) + xid(3, 48))
    resume = KmsgPosition(boot_id=BOOT, sequence=2)
    with reading(path, resume=resume) as (_, sink):
        signals = [sink.next(), sink.next(), *sink.rest()]

    assert codes(signals) == [48]


def test_a_reader_that_resumes_at_the_newest_record_reads_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79) + xid(2, 94))
    with reading(path, resume=KmsgPosition(boot_id=BOOT, sequence=2)) as (source, sink):
        time.sleep(0.3)
        with path.open("ab") as file:
            file.write(xid(3, 48))
        signals = [sink.next(), sink.next()]

    assert codes([*signals, *sink.rest()]) == [48]
    assert source.counters.resets == 0


def test_a_position_of_another_boot_is_not_resumed_from(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79))
    resume = KmsgPosition(boot_id=BootId("another"), sequence=2)
    with reading(path, resume=resume) as (_, sink):
        signals = [sink.next(), sink.next()]

    assert codes(signals) == [79]


@pytest.mark.parametrize(("accept", "wanted"), [(False, []), (True, [79])])
def test_only_the_kernels_facility_is_believed_unless_a_test_says_so(
    tmp_path: Path, accept: bool, wanted: list[int]
) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(xid(1, 79, priority=12) + xid(2, 43))
    with reading(path, accept_user_facility=accept) as (source, sink):
        signals = [sink.next(), sink.next(), *sink.rest()]

    assert codes(signals) == [*wanted, 43]
    assert source.counters.spoofed == (0 if accept else 1)


def test_a_malformed_xid_makes_everything_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(b"4,1,1,c;NVRM: Xid (PCI:zz): 79, x\n")
    with reading(path) as (source, sink):
        signals = [sink.next(), sink.next()]

    assert [type(signal) for signal in signals] == [MonitorReport, GapReport]
    assert source.counters.malformed == 1


def test_a_line_of_a_mebibyte_is_counted_and_what_follows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(b"4,1,1,c;" + b"x" * (1 << 20) + b"\n" + xid(2, 79))
    with reading(path) as (source, sink):
        signals = [sink.next(), sink.next()]

    assert codes(signals) == [79]
    assert source.counters.malformed >= 1


def test_a_log_that_cannot_be_read_is_reported_as_blindness(tmp_path: Path) -> None:
    with reading(tmp_path / "absent") as (_, sink):
        report = sink.next()

    assert isinstance(report, MonitorReport)
    assert report.state is MonitorState.UNREADABLE
    assert "absent" in report.detail


def test_this_machine_has_a_boot_id_and_a_clock_that_runs() -> None:
    clock = SystemClock()

    assert len(boot_id()) == 36
    assert clock.now().at <= clock.now().at
