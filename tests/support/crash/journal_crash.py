"""Kills a state store before each file-system call of a long life, and reads its files back.

Run as a program (`python -m support.crash.journal_crash <directory>`). The life has snapshots, appends, a journal that is
full, and its replacement. After every kill the files must hold the newest change whose save had returned, or the one
that was being saved. Prints the number of points; a lost change ends it with a traceback.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpuvitals.model.ids import BootId
from gpuvitals.node.state_store import NodeRecord, StateStore
from support.crash.crash_points import run_child
from support.crash.kill_points import KILLED, at_halves, in_halves, killed_before
from support.signals import moment
from support.worlds.memory_world import GPUS, gpu_record, small_store

_CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "replace", "unlink")
_SAVES_ALL = frozenset({0, 5, 15})
"""The changes after which the whole memory is saved, as by an idle agent."""
_CHANGES = 20


def changes() -> Iterator[NodeRecord]:
    """The memory after each change: one GPU of three is published anew."""
    gpus = [gpu_record(index) for index in range(GPUS)]
    for number in range(_CHANGES):
        index = number % GPUS
        gpus[index] = replace(gpus[index], published_at=1000.0 + number)
        yield NodeRecord(
            boot_id=BootId("boot-1"),
            driver_load="570.1",
            saved=moment(1000.0 + number),
            revision=number,
            gpus=tuple(gpus),
            kmsg_sequence=number,
        )


def main(directory: Path) -> int:
    """The number of points at which the store was killed."""
    point = 0
    while True:
        point += 1
        folder = directory / str(point)
        folder.mkdir()
        status = run_child(partial(_doomed, folder, point))
        assert status in (0, KILLED), f"point {point}: exit status {status}"
        assert run_child(partial(_check, folder)) == 0, f"point {point}"
        shutil.rmtree(folder)
        if status == 0:
            return point - 1


def _doomed(folder: Path, point: int) -> None:
    counted = killed_before(point)
    store = small_store(folder)
    store.load()
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT)
    note = os.pwrite
    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    os.write = in_halves(os.write)  # type: ignore[assignment] # this process lives for one story
    os.pwrite = at_halves(os.pwrite)  # type: ignore[assignment] # see above
    for number, node in enumerate(changes()):
        (store.save if number in _SAVES_ALL else store.record)(node)
        note(acknowledged, b"%4d" % number, 0)
        store.make_room()


def _check(folder: Path) -> None:
    noted = (folder / "acknowledged").read_bytes()
    last = int(noted) if noted else -1
    expected = dict(enumerate(changes()))
    memory = StateStore(folder / "state.json").load()
    if memory.node is None:
        assert last == -1, f"change {last} was lost"
        return
    found = memory.node.revision
    assert found in (last, last + 1), f"change {last} was acknowledged and {found} was found"
    assert replace(memory.node, sequence=0) == expected[found]
    # The next agent saves over it, and nothing of the earlier journal counts any more.
    heir = small_store(folder)
    heir.load()
    newest = replace(expected[found], revision=1000, saved=moment(2000.0))
    heir.record(newest)
    heir.make_room()
    again = StateStore(folder / "state.json").load()
    assert again.node is not None
    assert replace(again.node, sequence=0) == newest


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))}\n")
