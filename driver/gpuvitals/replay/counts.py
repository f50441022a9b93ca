"""What was read of the logs, and which lines of the driver could not be. Pure."""

from dataclasses import dataclass, field

from gpuvitals.replay.log_line import escaped

MAX_SAMPLES = 5
_SHOWN_BYTES = 160


@dataclass(frozen=True, slots=True)
class Sample:
    """One line that could not be read: its file and line, and how it begins."""

    where: str
    text: str


@dataclass(slots=True)
class Counts:
    """What was read so far.

    `about_gpus` are lines and recorded signals that say something about a GPU or a switch; `unsigned` are those of them
    whose form does not tell who wrote them, `undated` those whose date could not be read. `unread` are lines with a
    driver's mark in no known form, `mentions` lines of other programs that name the driver. `hosts` are the first few nodes
    that lines about GPUs name.
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
        """Whether lines of a driver were not understood, so that the answer may lack faults."""
        return bool(self.unread or self.malformed)

    def not_read(self, where: str, line: bytes) -> None:
        """Counts a line that has a driver's mark and no known form, and keeps the first few."""
        self.unread += 1
        self._keep(where, line)

    def damaged(self, where: str, line: bytes) -> None:
        """Counts a line that begins as a driver's and does not go on as one."""
        self.malformed += 1
        self._keep(where, line)

    def of_host(self, host: str) -> None:
        """Notes the node that a line about a GPU names; a domain behind its name makes no other node of it."""
        name = host.partition(".")[0] if not host[:1].isdigit() else host
        if name and name not in self.hosts and len(self.hosts) < MAX_SAMPLES:
            self.hosts.append(name)

    def _keep(self, where: str, line: bytes) -> None:
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(Sample(where, escaped(line[:_SHOWN_BYTES].strip())))
