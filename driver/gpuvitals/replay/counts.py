"""Counts of the lines read, with samples of driver lines that could not be parsed. Pure."""

from dataclasses import dataclass, field

from gpuvitals.replay.log_line import escaped

MAX_SAMPLES = 5
_SHOWN_BYTES = 160


@dataclass(frozen=True, slots=True)
class Sample:
    """One line that could not be parsed: its file and line number, and its first bytes."""

    where: str
    text: str


@dataclass(slots=True)
class Counts:
    """Counts so far. The field names are keys of the JSON summary.

    `about_gpus` are lines and recorded signals that report on a GPU or an NVSwitch. Of these, `unsigned` are in a format
    that does not identify the writer, and `undated` have a date that could not be parsed. `unread` are lines with a
    driver marker in an unknown format, `malformed` driver lines with a damaged header, `spoofed` lines that imitate the
    driver but were not written by the kernel, `mentions` lines of other programs that quote the driver, and `lost` the
    kernel records missing from the log. `hosts` are the first MAX_SAMPLES nodes named by lines about GPUs.
    """

    files: int = 0
    lines: int = 0
    about_gpus: int = 0
    unsigned: int = 0
    undated: int = 0
    spoofed: int = 0
    malformed: int = 0
    mentions: int = 0
    lost: int = 0
    unread: int = 0
    samples: list[Sample] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    @property
    def is_incomplete(self) -> bool:
        """Whether driver lines could not be parsed, so that the result may lack faults."""
        return bool(self.unread or self.malformed)

    def add_unread(self, where: str, line: bytes) -> None:
        """Counts a line with a driver marker in an unknown format, and keeps the first samples."""
        self.unread += 1
        self._keep(where, line)

    def add_malformed(self, where: str, line: bytes) -> None:
        """Counts a driver line with a damaged header, and keeps the first samples."""
        self.malformed += 1
        self._keep(where, line)

    def add_host(self, host: str) -> None:
        """Records the host name of a line about a GPU, without its DNS domain."""
        name = host.partition(".")[0] if not host[:1].isdigit() else host
        if name and name not in self.hosts and len(self.hosts) < MAX_SAMPLES:
            self.hosts.append(name)

    def _keep(self, where: str, line: bytes) -> None:
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(Sample(where, escaped(line[:_SHOWN_BYTES].strip())))
