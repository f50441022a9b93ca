"""B4: a million lines of kernel log, one in a thousand an XID, in bursts; then the corpora, then a log with holes.

CPU time of one core from bytes to signals: the agent's own reader of the kernel log, with its counters and its checks, on
lines in memory. The peer reads records as common monitors do (`benchmarks/peers/scan`): the header, then a list of regular
expressions on each text. Recall and false reports are measured on `tests/data/kmsg`; each hole is one record.
"""

import json
import logging
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.figures import Figure, Target
from benchmarks.harness.lab import Lab
from benchmarks.harness.processes import LabError
from gpuvitals.model.signal import GapReport, OffBusReport, RecoveryActionReport, Signal, XidReport
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.kmsg.record_stream import KmsgCounters, RecordStream

LINES = 1_000_000
HOLES = 1000
CORPUS = Path(__file__).resolve().parent.parent / "tests" / "data" / "kmsg"
_BATCH = 256
_XIDS_IN_A_THOUSAND = 1
_BURST = 20
_PEER_SECONDS = 300
_Report = tuple[str, str | None, int | None]
_REPORTING = frozenset({"xid", "off_bus", "recovery_action"})
_NOISE = (
    "usb 1-1: new high-speed USB device number 5 using xhci_hcd",
    "systemd[1]: Started Session 41822 of User root.",
    "eth0: Link is Up - 100Gbps/Full - flow control rx/tx",
    'audit: type=1400 audit(1764000000.123:42): apparmor="ALLOWED" operation="open" profile="crun" name="/etc/hosts"',
    "nvme nvme0: 16/0/0 default/read/poll queues",
    "pcieport 0000:00:1c.0: AER: Correctable error message received from 0000:3b:00.0",
)
_XIDS = (
    "NVRM: Xid (PCI:0000:3b:00): 13, pid=41822, name=python3, Graphics engine exception on GPC 2, TPC 3, SM 1",
    "NVRM: Xid (PCI:0000:3b:00): 45, pid=41822, name=python3, Ch 00000008 caused by previous Xid 13",
)


class _Signals(list[Signal]):
    """A sink that keeps its signals."""

    put = list.append


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    seconds: float
    signals: Sequence[Signal]
    counters: KmsgCounters


def run(lab: Lab, rounds: int) -> list[Figure]:
    """The figures of B4."""
    log = lab.folder / "kernel.log"
    log.write_bytes(b"\n".join(records(LINES)) + b"\n")
    lines = log.read_bytes().splitlines()
    ours: list[_Read] = []
    peer: list[float] = []
    for number in range(rounds):
        lab.say(f"B4 round {number + 1} of {rounds}")
        ours.append(_read(lines))
        peer.append(_scanned(lab.programs["scan"], log))
    xids = sum(b"NVRM: Xid" in line for line in lines)
    missed = [float(xids - len(each.signals)) for each in ours]
    return [
        Figure(
            benchmark="B4",
            name="a million lines, CPU of one core",
            unit="s",
            ours=[each.seconds for each in ours],
            peer=peer,
            targets=(Target(limit=1.0),),
        ),
        _count("XIDs missed among them", missed),
        _count("reports of the corpus missed", [float(missed_in_corpus())]),
        _count("false reports on the corpus", [float(false_in_corpus())]),
        _count(f"lost records not reported, of {HOLES}", [float(HOLES - reported_holes())]),
    ]


def records(count: int) -> Iterator[bytes]:
    """`count` records, bursts of XIDs among noise. Equal on each call."""
    chance = random.Random(4)
    burst = 0
    for number in range(1, count + 1):
        if burst == 0 and chance.random() < _XIDS_IN_A_THOUSAND / 1000 / _BURST:
            burst = _BURST
        text = _XIDS[burst % len(_XIDS)] if burst else _NOISE[number % len(_NOISE)]
        burst = max(0, burst - 1)
        yield f"{4 if burst else 6},{number},{number * 1000},-;{text}".encode()


def missed_in_corpus() -> int:
    """Reports that the expectations of the corpus have and the reader does not make."""
    return sum((wanted - found).total() for wanted, found in _corpus())


def false_in_corpus() -> int:
    """Reports that the reader makes and the expectations do not have."""
    return sum((found - wanted).total() for wanted, found in _corpus())


def reported_holes() -> int:
    """The number of lost records that the reader reports for `HOLES` holes of one record."""
    lines = [
        line for number, line in enumerate(records(3 * HOLES + 2)) if number % 3 != 2 or number > 3 * HOLES
    ]
    return sum(signal.lost for signal in _read(lines).signals if isinstance(signal, GapReport))


def _corpus() -> Iterator[tuple[Counter[_Report], Counter[_Report]]]:
    """The expected and the actual reports of each file of the corpus."""
    rows = [json.loads(row) for row in (CORPUS / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in ("good-xid.kmsg", "noise.kmsg", "hostile.kmsg"):
        # The reader skips a duplicate record.
        wanted = Counter(
            (row["kind"], row["pci"], row["code"])
            for row in rows
            if row["file"] == name and row["kind"] in _REPORTING and row["seq_event"] != "duplicate"
        )
        lines = (CORPUS / name).read_bytes().split(b"\n")[:-1]
        yield wanted, Counter(filter(None, map(_report, _read(lines).signals)))


def _report(signal: Signal) -> _Report | None:
    match signal:
        case XidReport():
            return "xid", signal.bus_id, signal.code
        case OffBusReport():
            return "off_bus", signal.bus_id, None
        case RecoveryActionReport():
            return "recovery_action", signal.bus_id, 154
        case _:
            return None


def _read(lines: Sequence[bytes]) -> _Read:
    logging.getLogger("gpuvitals").addHandler(logging.NullHandler())
    heard = _Signals()
    feed = RecordStream(SystemClock(), heard, resume_after=None, accept_user_facility=False)
    began = time.process_time()
    for at in range(0, len(lines), _BATCH):
        feed.take(lines[at : at + _BATCH])
    return _Read(seconds=time.process_time() - began, signals=heard, counters=feed.counters)


def _scanned(program: Path, log: Path) -> float:
    """CPU seconds of the peer."""
    done = subprocess.run(
        [str(program), str(log)], capture_output=True, text=True, timeout=_PEER_SECONDS, check=False
    )
    if done.returncode != 0:
        raise LabError(f"the peer's scan ended with {done.returncode}: {done.stderr[-500:]}")
    return float(json.loads(done.stdout)["seconds"])


def _count(name: str, values: list[float]) -> Figure:
    return Figure(benchmark="B4", name=name, unit="", ours=values, targets=(Target(limit=0.0),))
