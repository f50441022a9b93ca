"""A machine whose kernel log timestamps lag behind the boot clock, and lag more after each suspend."""

from gpuvitals.model.clock import Moment
from gpuvitals.signals.kmsg.record_stream import RecordStream
from support.signals import UUID, moment
from support.worlds.nvml_world import Recorder


class LaggingLog:
    """The boot clock is at `at` and moves when the test sets it. Records are of the GPU at 0000:3b:00.0."""

    def __init__(self, *, at: float, lag: float) -> None:
        self.at = at
        self.lag = lag
        self.written: list[bytes] = []

    def now(self) -> Moment:
        return moment(self.at)

    def feed(self) -> tuple[RecordStream, Recorder]:
        """A reader of this log, and its signals."""
        sink = Recorder()
        return RecordStream(self, sink, resume_after=None, accept_user_facility=False), sink

    def suspend(self, seconds: float) -> None:
        """The boot clock runs on, the log's clock does not."""
        self.at += seconds
        self.lag += seconds

    def record(self, text: str, *, after: float = 0.0, bus: str = "0000:3b:00") -> bytes:
        """One record, written after so many seconds more."""
        self.at += after
        stamp = max(0, round((self.at - self.lag) * 1e6))
        line = f"4,{len(self.written)},{stamp},-;{text.format(bus=bus)}".encode()
        self.written.append(line)
        return line

    def xid(self, code: int, *, after: float = 0.0, bus: str = "0000:3b:00") -> bytes:
        return self.record(f"NVRM: Xid (PCI:{{bus}}): {code}, pid=7, name=x, said", after=after, bus=bus)

    def identity(self, *, after: float = 0.0) -> bytes:
        return self.record(f"NVRM: GPU at PCI:{{bus}}: {UUID}", after=after)

    def noise(self, *, after: float = 0.0) -> bytes:
        return self.record("usb 1-1: new device", after=after)
