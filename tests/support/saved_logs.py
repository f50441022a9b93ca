"""Saved logs for the tests of the replay: kernel lines in every log format, and their replay."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from gpuvitals.health.policy import Policy
from gpuvitals.model.signal import OffBusReport, XidReport
from gpuvitals.replay.counts import Counts
from gpuvitals.replay.history import History
from gpuvitals.replay.reader import LogReader
from gpuvitals.replay.timeline import EntryKind, GpuSummary, LogEvent, Tally, TimelineEntry

EPOCH = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
WRITTEN = EPOCH + timedelta(days=30)
"""When the files were last written."""
LogLine = tuple[float, str]
"""Seconds, and the kernel's line at that time."""
BUS = "0000:3b:00"


def xid(code: int, rest: str = "text", bus: str = BUS) -> str:
    """The kernel's line of an XID."""
    return f"NVRM: Xid (PCI:{bus}): {code}, {rest}"


LOG: list[LogLine] = [
    (100, "usb 1-1: new device"),
    (200, xid(79, "pid=7, name=train, GPU has fallen off the bus.")),
    (201.5, "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus."),
    (300, "eth0: link up"),
]
"""A GPU that falls off the bus."""


def kmsg(log: Iterable[LogLine]) -> bytes:
    """As /dev/kmsg gives them."""
    lines = (f"4,{number},{round(at * 1e6)},-;{text}" for number, (at, text) in enumerate(log, start=1))
    return _joined(lines)


def dmesg(log: Iterable[LogLine]) -> bytes:
    """As `dmesg` prints them."""
    return _joined(f"[{at:12.6f}] {text}" for at, text in log)


def dmesg_decoded(log: Iterable[LogLine]) -> bytes:
    """As `dmesg -x` prints them."""
    return _joined(f"kern  :warn  : [{at:12.6f}] {text}" for at, text in log)


def dmesg_raw(log: Iterable[LogLine]) -> bytes:
    """As `dmesg -r` prints them."""
    return _joined(f"<4>[{at:12.6f}] {text}" for at, text in log)


def dmesg_caller(log: Iterable[LogLine]) -> bytes:
    """In the format of `dmesg` with the caller's ID."""
    return _joined(f"[{at:12.6f}][ T1234] {text}" for at, text in log)


def dmesg_human(log: Iterable[LogLine]) -> bytes:
    """As `dmesg -T` prints them."""
    return _joined(f"[{_wall(at):%a %b %e %H:%M:%S %Y}] {text}" for at, text in log)


def dmesg_iso(log: Iterable[LogLine]) -> bytes:
    """As `dmesg --time-format iso` prints them, on a machine one hour east."""
    return _joined(
        f"{_wall(at) + timedelta(hours=1):%Y-%m-%dT%H:%M:%S},{_wall(at).microsecond:06d}+01:00 {text}"
        for at, text in log
    )


def syslog(log: Iterable[LogLine]) -> bytes:
    """As syslog daemons kept them for thirty years."""
    return _joined(f"{_wall(at):%b %e %H:%M:%S} node-7 kernel: [{at:12.6f}] {text}" for at, text in log)


def syslog_iso(log: Iterable[LogLine]) -> bytes:
    """As syslog daemons keep them today."""
    return _joined(f"{_wall(at).isoformat()} node-7 kernel: {text}" for at, text in log)


def journal_short(log: Iterable[LogLine]) -> bytes:
    """As `journalctl -k` prints them."""
    head = b"-- Journal begins at Tue 2026-11-24 10:00:00 UTC. --\n"
    return head + _joined(f"{_wall(at):%b %e %H:%M:%S} node-7 kernel: {text}" for at, text in log)


def journal_monotonic(log: Iterable[LogLine]) -> bytes:
    """As `journalctl -k -o short-monotonic` prints them."""
    return _joined(f"[{at:12.6f}] node-7 kernel: {text}" for at, text in log)


def journal_json(log: Iterable[LogLine], boot: str = "a") -> bytes:
    """As `journalctl -o json` prints them, among another program's."""
    entries = []
    for at, text in log:
        entries.append(_entry(at, text, boot))
        entries.append(_entry(at, text, boot) | {"_TRANSPORT": "syslog", "SYSLOG_FACILITY": "3"})
    return _joined(json.dumps(entry, separators=(",", ":")) for entry in entries)


def journal_export(log: Iterable[LogLine], boot: str = "a") -> bytes:
    """As `journalctl -o export` prints them, every second text behind its size."""
    parts: list[bytes] = []
    for number, (at, text) in enumerate(log):
        fields = _entry(at, text, boot)
        message = fields.pop("MESSAGE").encode()
        head = "__CURSOR=s=1\n" + "".join(f"{key}={value}\n" for key, value in fields.items())
        size = b"=" if number % 2 else b"\n" + len(message).to_bytes(8, "little")
        parts.append(head.encode() + b"MESSAGE" + size + message + b"\n\n")
    return b"".join(parts)


STAMPED = (
    kmsg,
    dmesg,
    dmesg_decoded,
    dmesg_raw,
    dmesg_caller,
    dmesg_human,
    dmesg_iso,
    syslog,
    syslog_iso,
    journal_short,
    journal_monotonic,
    journal_json,
    journal_export,
)
"""Every form with time stamps."""


@dataclass(frozen=True)
class Replayed:
    """The result of a replay."""

    timeline: list[TimelineEntry]
    tally: Tally
    ends: dict[str, GpuSummary]
    counts: Counts
    reader: LogReader

    def texts(self, kind: EntryKind) -> list[str]:
        return [entry.text for entry in self.timeline if entry.kind is kind]

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(each.outcome.value, each.because) for each in self.tally.kept]


def heard(*files: bytes, reader: LogReader | None = None, block: int = 1 << 16) -> list[LogEvent]:
    """The signals that a reader finds in the files."""
    reader = reader or LogReader()
    found: list[LogEvent] = []
    for number, content in enumerate(files, start=1):
        found += reader.read(f"log-{number}", blocks(content, block), WRITTEN)
    return found


def check_loss(content: bytes, block: int) -> LogReader:
    """Checks that a log with the lines of LOG, read in blocks of that size, shows both reports at their times."""
    reader = LogReader()
    xid_report, off_bus = heard(content, reader=reader, block=block)

    assert isinstance(xid_report, XidReport)
    assert isinstance(off_bus, OffBusReport)
    assert (xid_report.code, xid_report.bus_id, xid_report.process) == (79, "0000:3b:00.0", "train")
    assert off_bus.seen.at - xid_report.seen.at == pytest.approx(1.5, abs=1)
    assert reader.clock.began is not None
    assert reader.clock.now.at - reader.clock.began.at == pytest.approx(200, abs=1)
    if reader.clock.is_wall:
        assert (reader.clock.began.time - EPOCH).total_seconds() == pytest.approx(100, abs=1)
    return reader


def blocks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def replayed(*files: bytes, policy: Policy | None = None, gpus: int = 8) -> Replayed:
    """The files, oldest first, as one node's log."""
    reader, history = LogReader(), History(policy or Policy(), gpus)
    found: list[TimelineEntry] = []
    for number, content in enumerate(files, start=1):
        for each in reader.read(f"log-{number}", blocks(content, 1 << 16), WRITTEN):
            found += history.take(each, reader.clock.now)
    now = reader.clock.now
    found += history.end(now)
    ends = {end.gpu: end for end in history.summaries(now)}
    return Replayed(found, history.tally, ends, reader.counts, reader)


def _wall(at: float) -> datetime:
    return EPOCH + timedelta(seconds=at)


def _entry(at: float, text: str, boot: str) -> dict[str, str]:
    return {
        "__REALTIME_TIMESTAMP": str(round(_wall(at).timestamp() * 1e6)),
        "_BOOT_ID": boot,
        "_TRANSPORT": "kernel",
        "SYSLOG_FACILITY": "0",
        "PRIORITY": "4",
        "MESSAGE": text,
    }


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def quiet(log: Sequence[LogLine], until: float) -> list[LogLine]:
    """The same log with a later, unrelated line."""
    return [*log, (until, "usb 1-1: new device")]
