"""Callers that wait for the checkpoint's lock together are served by one save, each with an outcome of its own."""

import fcntl
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.durable import DurableFile
from gpuvitals.kubeletplugin.checkpoint.checkpoint import FILE, LOCK, Checkpoint
from gpuvitals.kubeletplugin.checkpoint.format import State
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.telemetry import TelemetryBuffer
from gpuvitals.model.ids import BootId
from support.waiting import eventually
from support.worlds.plugin_world import uid_of

Change = Callable[[State], State]


class NoRecords:
    """A CDI directory without files."""

    def recorded(self) -> tuple[HeldClaim, ...]:
        return ()


def opened(directory: Path, wait: float = 10.0) -> Checkpoint:
    return Checkpoint(directory, BootId("boot-1"), NoRecords(), TelemetryBuffer(), lock_wait_seconds=wait)


def bury(number: int) -> Change:
    """The smallest change: a tombstone, by which the claim's change is known later."""
    return lambda state: state.with_tombstone(uid_of(number), float(number), 1000.0)


def buried(state: State) -> set[int]:
    return {int(stone.at) for stone in state.tombstones}


def generation(directory: Path) -> int:
    """How many saves there were."""
    path = DurableFile(directory / FILE).load().path
    assert path is not None
    return int(json.loads(path.read_bytes())["generation"])


@contextmanager
def held_up(checkpoint: Checkpoint) -> Iterator[None]:
    """Another call of this process holds the lock for the block."""
    begun, go = threading.Event(), threading.Event()

    def slow(state: State) -> State:
        begun.set()
        assert go.wait(20)
        return state

    holder = threading.Thread(target=checkpoint.update, args=(slow,), name="holder")
    holder.start()
    assert begun.wait(5)
    try:
        yield
    finally:
        go.set()
        holder.join(5)


def waiting(checkpoint: Checkpoint, pool: ThreadPoolExecutor, *changes: Change) -> list[Future[State]]:
    """The changes asked for, in this order, all of them waiting."""
    asked: list[Future[State]] = []
    for change in changes:
        before = len(checkpoint._pending)
        asked.append(pool.submit(checkpoint.update, change))
        eventually(lambda before=before: len(checkpoint._pending) > before)
    return asked


def test_those_that_wait_together_are_one_save(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path)
    checkpoint.update(bury(0))
    before = generation(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        with held_up(checkpoint):
            asked = waiting(checkpoint, pool, *(bury(number) for number in range(1, 9)))
        assert all(buried(each.result(5)) == set(range(9)) for each in asked)

    assert generation(tmp_path) == before + 1
    assert buried(opened(tmp_path).read()) == set(range(9))


def test_what_one_change_raises_is_its_callers_alone(tmp_path: Path) -> None:
    def refuse(state: State) -> State:
        raise RefusedError(RefusalCode.DEVICE_IN_USE, "taken")

    def break_down(state: State) -> State:
        raise ZeroDivisionError

    checkpoint = opened(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        with held_up(checkpoint):
            first, refused, broken, last = waiting(checkpoint, pool, bury(1), refuse, break_down, bury(2))
        assert buried(first.result(5)) == buried(last.result(5)) == {1, 2}
        with pytest.raises(RefusedError, match="taken"):
            refused.result(5)
        with pytest.raises(ZeroDivisionError):
            broken.result(5)

    assert buried(opened(tmp_path).read()) == {1, 2}


def test_a_disk_that_refuses_fails_all_of_them_and_records_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened(tmp_path)
    checkpoint.update(bury(0))
    checkpoint.update(bury(1))
    with ThreadPoolExecutor(2) as pool:
        with held_up(checkpoint):
            asked = waiting(checkpoint, pool, bury(2), bury(3))
            monkeypatch.setattr("os.fdatasync", _no_space)
        for each in asked:
            with pytest.raises(RefusedError) as caught:
                each.result(5)
            assert caught.value.refusal.code is RefusalCode.STORAGE_FAILED
    monkeypatch.undo()

    assert buried(opened(tmp_path).read()) == {0, 1}
    assert buried(checkpoint.update(bury(4))) == {0, 1, 4}


def test_a_caller_that_gave_up_is_not_served_later(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, wait=0.2)
    checkpoint.update(bury(0))
    with (tmp_path / LOCK).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RefusedError) as caught:
            checkpoint.update(bury(1))
        assert caught.value.refusal.code is RefusalCode.BUSY

    assert buried(checkpoint.update(bury(2))) == {0, 2}


def _no_space(file: int) -> None:
    raise OSError(28, "No space left on device")
