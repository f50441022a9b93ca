"""Timestamps of the kernel log on the boot clock: measured by the newest record, never in the future or out of order."""

from pathlib import Path

import pytest

from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import IdentityReport, Signal, XidReport
from gpuvitals.signals.kmsg.clock import StampClock, is_stamp
from gpuvitals.signals.kmsg.record_stream import RecordStream
from gpuvitals.signals.kmsg.source import KmsgPosition, KmsgSettings, KmsgSource
from support.fakes.lagging_kernel_log import LaggingLog
from support.signals import moment
from support.worlds.nvml_world import Recorder

LAGS = [0.0, 10.0, 200.0, 3600.0, -30.0]


def instants(signals: list[Signal]) -> list[float]:
    return [round(each.seen.at, 3) for each in signals if isinstance(each, XidReport | IdentityReport)]


@pytest.mark.parametrize("lag", LAGS)
def test_a_live_record_was_written_when_it_arrived(lag: float) -> None:
    """Finding R3"""
    log = LaggingLog(at=100_000.0, lag=lag)
    feed, sink = log.feed()
    feed.take([log.xid(79)])
    log.at += 300
    feed.take([log.xid(95)])

    assert instants(sink.signals) == [100_000.0, 100_300.0]
    assert feed.lag_seconds == pytest.approx(lag, abs=1e-3)


@pytest.mark.parametrize("lag", LAGS)
def test_records_that_are_read_together_keep_their_distance(lag: float) -> None:
    """Finding R3"""
    log = LaggingLog(at=100_000.0, lag=lag)
    feed, sink = log.feed()
    lines = [log.xid(79, after=0.0), log.identity(after=40.0), log.xid(95, after=2.5), log.noise(after=5.0)]
    feed.take(lines)

    assert instants(sink.signals) == [100_000.0, 100_040.0, 100_042.5]
    assert [each.seen.time for each in sink.signals] == [moment(at).time for at in instants(sink.signals)]


@pytest.mark.parametrize("jump", [10.0, 200.0, 3600.0])
def test_a_suspend_while_the_log_is_followed_is_measured_by_the_next_record(jump: float) -> None:
    """Finding R3"""
    log = LaggingLog(at=100_000.0, lag=0.0)
    feed, sink = log.feed()
    feed.take([log.xid(79)])
    log.suspend(jump)
    feed.take([log.xid(95, after=1.0)])

    assert instants(sink.signals) == [100_000.0, 100_001.0 + jump]


def test_a_record_is_never_older_than_the_one_before_it() -> None:
    """Finding R3: the identity and its XID are read in two batches, of which the first was read late."""
    log = LaggingLog(at=100_000.0, lag=200.0)
    feed, sink = log.feed()
    identity = log.identity()
    log.at += 0.8
    feed.take([identity])
    fault = log.xid(79, after=-0.7)
    feed.take([fault, log.noise(after=0.7)])

    first, second = instants(sink.signals)
    assert first <= second


def test_a_stamp_that_no_clock_gives_measures_nothing() -> None:
    """Finding R3: one defective record must not move the others into the past."""
    log = LaggingLog(at=100_000.0, lag=200.0)
    feed, sink = log.feed()
    feed.take([log.xid(79), b"4,50,%d,-;usb 1-1: nonsense" % (1 << 62), b"no record at all"])

    assert instants(sink.signals) == [100_000.0]
    assert not is_stamp(200_000.0, 100_000.0)


def test_a_stamp_ahead_of_the_boot_clock_is_now() -> None:
    clock = StampClock()

    assert clock.moment(5000.0, moment(1000.0)) == moment(1000.0)


@pytest.mark.parametrize("lag", LAGS)
def test_the_backlog_ends_before_the_reader_began(lag: float) -> None:
    """Finding R3: its newest record may be old, so it is no sign of what happened since the start."""
    log = LaggingLog(at=100_000.0, lag=lag)
    feed, sink = log.feed()
    lines = [log.xid(79), log.identity(after=50.0)]
    log.at += 1000.0
    began = log.at
    log.at += 2.0
    feed.hold(lines)
    assert sink.signals == []
    feed.release(began)

    if lag >= 0:
        assert instants(sink.signals) == [began - 50.0, began]
    assert all(each.seen.at <= began for each in sink.signals)


def test_a_record_of_the_first_seconds_is_no_backlog() -> None:
    """Finding R3: with a clock that does not lag, its stamp says that it was written after the start."""
    log = LaggingLog(at=100_000.0, lag=0.0)
    feed, sink = log.feed()
    began = log.at
    line = log.xid(79, after=0.4)
    feed.hold([line])
    feed.release(began)

    assert instants(sink.signals) == [100_000.4]


def test_what_is_held_is_not_yet_read(tmp_path: Path) -> None:
    """Finding R3: a reader that ends before it has put a signal leaves the record to the next one."""
    log = LaggingLog(at=100_000.0, lag=10.0)
    feed, sink = log.feed()
    feed.take([log.noise()])
    before = feed.sequence
    feed.hold([log.noise(), log.xid(79), log.noise()])

    assert (feed.held, feed.sequence, before) == (1, 1, 0)
    feed.release()
    assert (feed.held, feed.sequence) == (0, 3)
    assert len(sink.signals) == 1


def test_a_backlog_of_many_batches_is_measured_by_its_newest_record(tmp_path: Path) -> None:
    """Finding R3: a ring that takes several reads is one backlog; what is 5 minutes apart in it stays so."""
    log = LaggingLog(at=100_000.0, lag=200.0)
    lines = [log.xid(79), *(log.noise(after=0.01) for _ in range(3000)), log.xid(95, after=300.0)]
    path = tmp_path / "kmsg"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    log.at += 20.0
    sink = Recorder()
    source = KmsgSource(KmsgSettings(path=path, boot_id=BootId("b")), log, sink)
    source.start()
    try:
        sink.wait(XidReport, lambda report: report.code == 95)
    finally:
        source.stop(5)

    assert instants(sink.signals) == pytest.approx([log.at - 330.0, log.at], abs=0.01)
    assert source.lag_seconds == pytest.approx(220.0, abs=1e-3)


def test_a_resumed_reader_measures_by_records_that_it_does_not_report_again() -> None:
    """Finding R3"""
    log = LaggingLog(at=100_000.0, lag=3600.0)
    lines = [log.xid(79), log.noise(after=100.0)]
    sink = Recorder()
    position = KmsgPosition(boot_id=BootId("b"), sequence=1)
    feed = RecordStream(log, sink, resume_after=position.sequence, accept_user_facility=False)
    feed.hold(lines)
    feed.release(log.at)

    assert sink.signals == []
    assert feed.lag_seconds == pytest.approx(3600.0, abs=1e-3)


def test_a_moment_has_the_wall_clock_of_its_instant() -> None:
    clock = StampClock()
    clock.measure(800.0, 1000.0)
    now: Moment = moment(1000.0)

    assert clock.moment(700.0, now) == moment(900.0)
