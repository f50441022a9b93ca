"""Kills the agent before each of its file-system calls and before it publishes, and lets a fresh one take over.

Run as a program (`python -m support.crash.agent_crash <directory>`), so that it forks from a process without threads. The
kernel log is a real file with a real reader, and a fault is written to it. After every kill the next agent must publish
the fault, and a fault that was published before the kill must be in the files. Prints the number of points; a lost fault
ends it with a traceback.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import BootId, NodeName
from gpuvitals.node.agent import AgentSettings, NodeAgent
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.state_store import StateStore
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.kmsg.source import KmsgPosition, KmsgSettings, KmsgSource
from support.crash.crash_points import in_child, run_child
from support.crash.kill_points import KILLED, at_halves, in_halves, killed_before
from support.fakes.agent_ports import (
    DefaultPolicies,
    DriverFilesWatch,
    GpuMonitor,
    HeldDevices,
    PublishedVerdicts,
    Role,
)
from support.fakes.event_log import EventLog
from support.worlds.agent_world import inventory, lost, reading

BOOT = BootId("boot-1")
FAULTY = 3
_CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "replace", "unlink")
_PUBLISHED = "published"
"""Exists in the folder once a snapshot with the fault was published."""


class Process:
    """One agent with its reader of the kernel log; `before_publishing` is called for every snapshot."""

    def __init__(self, folder: Path, before_publishing: Callable[[], object]) -> None:
        self._folder = folder
        self._before_publishing = before_publishing
        store = StateStore(folder / "health.json")
        memory = store.load()
        stored = memory.node
        self.clock = SystemClock()
        queue = SignalQueue()
        resume = None
        if stored is not None and stored.kmsg_sequence is not None:
            resume = KmsgPosition(boot_id=stored.boot_id, sequence=stored.kmsg_sequence)
        log = KmsgSettings(path=folder / "kmsg", boot_id=BOOT, resume=resume)
        self.source = KmsgSource(log, self.clock, queue)
        ports = AgentPorts(
            queue=queue,
            devices=HeldDevices(),
            monitor=GpuMonitor(),
            kernel_log=self.source,
            events=EventLog(),
            policies=DefaultPolicies(),
            role=Role(),
            storage=StorageReport(EventLog()),
            published=PublishedVerdicts(),
            files=DriverFilesWatch(),
        )
        settings = AgentSettings(node=NodeName("node-a"), boot_id=BOOT)
        self.agent = NodeAgent(settings, self.clock, store, ports, NodeMetrics("test"))
        self.agent.restore(memory)
        self.agent.listen(lambda snapshot, observed_at: self._publish())

    def live(self) -> None:
        """Reads healthy GPUs, then the fault, and turns until nothing is left to read."""
        self.source.start()
        at = self.clock.now().at
        for signal in (inventory(at), *(reading(index, at) for index in range(8) if index != FAULTY)):
            self.agent.queue.put(signal)
        self.agent.queue.put(lost(FAULTY, at) if self._is_faulty() else reading(FAULTY, at))
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            self.agent.step(0.02)
            if self._is_faulty() and self._sequence() is not None:
                break
        self.agent.step(0.02)
        self.source.stop(5)

    def shows_the_fault(self) -> bool:
        snapshot = self.agent.snapshot
        return snapshot is not None and snapshot.gpus[FAULTY].verdict.last_xid == 79

    def is_out_of_service(self) -> bool:
        snapshot = self.agent.snapshot
        assert snapshot is not None
        return snapshot.gpus[FAULTY].verdict.state is HealthState.UNHEALTHY

    def _publish(self) -> None:
        self._before_publishing()
        if self.shows_the_fault():
            (self._folder / _PUBLISHED).touch()

    def _is_faulty(self) -> bool:
        return self.shows_the_fault()

    def _sequence(self) -> int | None:
        position = self.source.position
        return None if position is None else position.sequence


def main(directory: Path) -> int:
    """The number of points at which the agent was killed."""
    healthy = directory / "healthy"
    healthy.mkdir()
    in_child(partial(_healthy_life, healthy))
    point = 0
    while True:
        point += 1
        folder = directory / str(point)
        shutil.copytree(healthy, folder)
        _log(folder, 11, "NVRM: Xid (PCI:0000:03:00): 79, GPU has fallen off the bus.")
        status = run_child(partial(_doomed, folder, point))
        assert status in (0, KILLED), f"point {point}: exit status {status}"
        in_child(partial(_heir, folder))
        shutil.rmtree(folder)
        if status == 0:
            return point - 1


def _log(folder: Path, sequence: int, text: str) -> None:
    microseconds = int(SystemClock().now().at * 1e6)
    with (folder / "kmsg").open("a") as log:
        log.write(f"4,{sequence},{microseconds},-;{text}\n")


def _healthy_life(folder: Path) -> None:
    _log(folder, 10, "Linux version 6.8")
    process = Process(folder, lambda: None)
    process.live()
    assert not process.shows_the_fault()


def _doomed(folder: Path, point: int) -> None:
    counted = killed_before(point)
    process = Process(folder, counted(lambda: None))
    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    os.write = in_halves(os.write)  # type: ignore[assignment] # this process lives for one story
    os.pwrite = at_halves(os.pwrite)  # type: ignore[assignment] # see above
    process.live()
    assert process.shows_the_fault(), "the agent did not read the fault"


def _heir(folder: Path) -> None:
    stored = StateStore(folder / "health.json").load().node
    if (folder / _PUBLISHED).exists():
        assert stored is not None
        published = stored.gpus[FAULTY].published
        assert published is not None
        assert published.last_xid == 79, "the fault was published before it was durable"
    process = Process(folder, lambda: None)
    process.live()
    assert process.shows_the_fault(), "the fault was lost"
    assert process.is_out_of_service()


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))}\n")
