"""The machine, the versions that bear on a figure, and the load by other processes during the run."""

import os
import platform
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.harness.build import PEERS
from benchmarks.harness.stats import median
from cluster.build import pinned_version

_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine of one run: facts by label, the run's date, and the load by other processes."""

    facts: tuple[tuple[str, str], ...]
    date: str
    load: str
    was_busy: bool


class Meter:
    """Measures the load by other processes from its construction on. Call `machine` when the run's processes have ended."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._began, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()
        self._fsync = _fsync_milliseconds()

    def machine(self) -> Machine:
        """The facts, with the share of the cores that other processes used during the run."""
        seconds = time.monotonic() - self._began
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        share = max(0.0, others / (seconds * (os.cpu_count() or 1)))
        facts = (
            ("cores", f"{os.cpu_count()}, shared with the API server, etcd and the watcher"),
            ("architecture, kernel", f"{platform.machine()}, Linux {platform.release().split('-')[0]}"),
            ("disk", f"write and fsync of 4 KiB: median {self._fsync:.2f} ms before the run"),
            ("Kubernetes, etcd", f"{_pinned('kubernetes-1.37', 'k8s.io/kubernetes')}, {_etcd()}, fsync on"),
            ("Python, grpcio", f"{platform.python_version()}, {version('grpcio')}"),
            ("Go, upstream helper", f"{_go()}, k8s.io/dynamic-resource-allocation {_helper()}"),
        )
        load = f"load {self._load:.2f} before, others used {share:.0%} of the cores meanwhile"
        date = datetime.now(UTC).date().isoformat()
        return Machine(facts=facts, date=date, load=load, was_busy=share > _BUSY_SHARE)


def _busy_seconds() -> float:
    """Busy seconds of all cores since boot: neither idle nor waiting for a disk."""
    fields = [
        int(each) for each in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    ]
    return (sum(fields[:8]) - fields[3] - fields[4]) / _TICKS


def _own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def _fsync_milliseconds(times: int = 51) -> float:
    took = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(times):
            began = time.perf_counter()
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return median(took)


def _pinned(module: str, package: str) -> str:
    return pinned_version(module, package)


def _etcd() -> str:
    return f"etcd {_pinned('etcd', 'go.etcd.io/etcd/server/v3')}"


def _go() -> str:
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip() or "unknown"


def _helper() -> str:
    for line in (PEERS / "go.mod").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == ["k8s.io/dynamic-resource-allocation"]:
            return words[1]
    return "unknown"
