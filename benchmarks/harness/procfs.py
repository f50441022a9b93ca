"""Memory, CPU time and wake-ups of a process, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`resident_mib` is RSS, `private_mib` its unshared part; CPU seconds and wake-ups count from the process's start."""

    resident_mib: float
    private_mib: float
    cpu_seconds: float
    wakeups: int


def usage(pid: int) -> Usage:
    """The usage of a process with all its threads. Raises OSError if it has ended."""
    folder = Path(f"/proc/{pid}")
    rollup = _kilobytes((folder / "smaps_rollup").read_text(encoding="ascii"))
    fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return Usage(
        resident_mib=rollup["Rss"] / 1024,
        private_mib=(rollup["Private_Clean"] + rollup["Private_Dirty"]) / 1024,
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        wakeups=sum(_wakeups(task) for task in (folder / "task").iterdir()),
    )


def children(pid: int) -> list[int]:
    """The running child processes of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return found


def _kilobytes(text: str) -> dict[str, int]:
    fields = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) for words in fields if words[-1] == "kB"}


def _wakeups(task: Path) -> int:
    for line in (task / "status").read_text(encoding="utf-8").splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    return 0
