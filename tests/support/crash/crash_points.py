"""Kills a process before each of its file-system calls in turn, and starts a new one that takes over.

Run as a program (`python -m support.crash.crash_points <directory> <story>`), so that it forks from a process without gRPC
threads. Prints the number of points; any broken invariant ends it with a traceback.
"""

import fcntl
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.attached_ports import AttachedPorts
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.cdi.files import CdiFiles, CdiNames
from gpuvitals.kubeletplugin.cdi.spec import file_name
from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue
from gpuvitals.kubeletplugin.claims.preparer import Call, Preparer, PreparerContext, Store
from gpuvitals.kubeletplugin.directory import Directory
from gpuvitals.kubeletplugin.held_claim import HeldClaim, conflict
from gpuvitals.kubeletplugin.outcome import Refusal
from gpuvitals.kubeletplugin.telemetry import TelemetryBuffer
from gpuvitals.model.ids import BootId, ClaimUid
from support.crash.kill_points import KILLED, in_halves, killed_before
from support.worlds.plugin_world import FAST, NODE, SystemClock, World, uid_of

HASTY = replace(FAST, transient_wait_seconds=0.0)
"""Without waiting, because a single process runs here."""

_CALLS = ("open", "write", "fsync", "fdatasync", "replace", "unlink", "mkdir", "pwrite", "fdopen")


class Agent:
    """One process's prepare and unprepare on the node's files, without sockets."""

    def __init__(self, node: World) -> None:
        (node.directory / "data").mkdir(exist_ok=True)
        self.naming = Naming()
        boot = BootId("boot-1")
        self.cdi = CdiFiles(
            Directory(node.directory / "cdi"),
            DriverRoot(node.settings().driver_root),
            CdiNames(naming=self.naming, boot=boot),
            node.agent,
        )
        self.checkpoint = Checkpoint(node.directory / "data", boot, self.cdi, TelemetryBuffer())
        ports = AttachedPorts()
        ports.attach(node.ports())
        context = PreparerContext(
            naming=self.naming,
            node=NODE,
            limits=HASTY,
            clock=SystemClock(),
            stop=threading.Event(),
            ports=ports,
            events=node.events,
        )
        self._preparer = Preparer(Store(checkpoint=self.checkpoint, cdi=self.cdi), ClaimQueue(), context)
        self._node = node

    def prepare(self, number: int) -> HeldClaim:
        answer = self._preparer.prepare(ref(number), self._call())
        assert not isinstance(answer, Refusal), str(answer)
        return answer

    def unprepare(self, number: int) -> None:
        refusal = self._preparer.unprepare(ref(number), self._call())
        assert refusal is None, str(refusal)

    def settle(self) -> None:
        """Compares the files as the reconciler does at start."""
        self.cdi.reconcile(self.checkpoint.read().claims)
        names = self.cdi.names()
        self.cdi.sweep(names, [held.claim.uid for held in self.checkpoint.read().claims], 0.0)

    def check_files(self) -> None:
        """Checks that every claim in the checkpoint has its CDI file, because a pod may start on it at any moment."""
        files = self._node.cdi_files()
        for claim in self.checkpoint.read().claims:
            assert file_name(self.naming, claim.claim.uid) in files, "prepared without a cdi file"

    def check(self, *must_hold: int) -> None:
        """Checks that no device has two holders and no claim of an answered Prepare is lost."""
        held = self.checkpoint.read().claims
        for claim in held:
            assert conflict(claim.claim.uid, claim.devices, held) is None, "a device is prepared twice"
        files = sorted(os.listdir(self._node.directory / "cdi")) if held else self._node.cdi_files()
        assert files == sorted(file_name(self.naming, claim.claim.uid) for claim in held), files
        missing = {uid_of(number) for number in must_hold} - {ClaimUid(claim.claim.uid) for claim in held}
        assert not missing, missing

    @staticmethod
    def _call() -> Call:
        arrived = time.clock_gettime(time.CLOCK_BOOTTIME)
        return Call(arrived=arrived, deadline=time.monotonic() + 10.0, caller=_PatientCaller())


class _PatientCaller:
    """A caller that never cancels."""

    def is_active(self) -> bool:
        return True


def ref(number: int) -> ClaimRef:
    return ClaimRef(namespace="ml", name=f"claim-{number}", uid=uid_of(number))


def first_prepare(agent: Agent, node: World) -> None:
    agent.prepare(1)


def second_prepare(agent: Agent, node: World) -> None:
    agent.prepare(2)


def unprepare(agent: Agent, node: World) -> None:
    agent.unprepare(1)


def allocated_anew(agent: Agent, node: World) -> None:
    node.allocate(1, 3)
    agent.prepare(1)


def lost_file(agent: Agent, node: World) -> None:
    for name in node.cdi_files():
        (node.directory / "cdi" / name).unlink()
    agent.prepare(1)


STORIES: dict[str, tuple[Callable[[Agent, World], None], tuple[int, ...], tuple[int, ...]]] = {
    "first-prepare": (first_prepare, (), ()),
    "second-prepare": (second_prepare, (1,), (1,)),
    "unprepare": (unprepare, (1, 3), (3,)),
    "allocated-anew": (allocated_anew, (1, 2), (2,)),
    "lost-file": (lost_file, (1,), (1,)),
}
"""The operation that is killed, the claims prepared before it, and those that must be prepared after any kill."""


def main(directory: Path, story: str) -> int:
    """The number of points at which the story was killed."""
    act, before, must_hold = STORIES[story]
    point = 0
    while True:
        point += 1
        node = _node(directory / f"{story}-{point}")
        in_child(partial(_prepared, node, before))
        status = run_child(partial(_doomed, act, node, point))
        assert status in (0, KILLED), f"point {point}: exit status {status}"
        in_child(partial(_take_over, node, act, must_hold))
        shutil.rmtree(node.directory)
        if status == 0:
            return point - 1


def _node(directory: Path) -> World:
    directory.mkdir()
    node = World(directory)
    for number, gpu in ((1, 0), (2, 1), (3, 2)):
        node.allocate(number, gpu)
    return node


def _prepared(node: World, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        Agent(node).prepare(number)


def _doomed(act: Callable[[Agent, World], None], node: World, point: int) -> None:
    agent = Agent(node)
    counted = killed_before(point)
    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    os.write = in_halves(os.write)  # type: ignore[assignment] # this process lives for one story
    fcntl.flock = counted(fcntl.flock)  # type: ignore[assignment] # this process lives for one story
    act(agent, node)


def _take_over(node: World, act: Callable[[Agent, World], None], must_hold: tuple[int, ...]) -> None:
    agent = Agent(node)
    if act is not lost_file:
        agent.check_files()
    agent.settle()
    agent.check(*must_hold)
    act(agent, node)
    agent.check_files()
    agent.settle()
    agent.check(*must_hold)
    for number in (1, 2, 3):
        agent.unprepare(number)
    agent.settle()
    agent.check()
    assert node.cdi_files() == []


def in_child(work: Callable[[], object]) -> None:
    """Runs `work` in a child process, and checks that it succeeds."""
    status = run_child(work)
    assert status == 0, f"exit status {status}"


def run_child(work: Callable[[], object]) -> int:
    """Runs `work` in a child process, and returns its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:  # the child must never return into the parent's code, whatever happened
            if sys.exc_info()[0] is None:
                os._exit(0)
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]), sys.argv[2])}\n")
