"""The publisher lock: the newest ready instance publishes, and one always does while one could."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpuvitals.kubeletplugin.publisher_lock import PublisherLock
from support.waiting import eventually


@dataclass
class Instance:
    """One instance, and the calls that it got from its lock."""

    lock: PublisherLock
    ready: threading.Event
    changes: list[bool] = field(default_factory=list)
    publishers: list[str] = field(default_factory=list)

    def is_ready(self) -> bool:
        return self.ready.is_set()

    def publishing_changed(self, *, is_publishing: bool) -> None:
        self.changes.append(is_publishing)

    def instance_departed(self) -> None:
        pass

    def standing_by(self, publisher: str) -> None:
        self.publishers.append(publisher)


@contextmanager
def instance(
    directory: Path, age: float, *, ready: bool, standby_seconds: float = 60.0
) -> Iterator[Instance]:
    is_ready = threading.Event()
    if ready:
        is_ready.set()
    lock = PublisherLock(directory, age, f"pod-{age:.0f}", standby_seconds)
    made = Instance(lock, is_ready)
    lock.announce(exclusive=False)
    lock.start(made)
    try:
        yield made
    finally:
        lock.stop()


def test_a_newer_instance_takes_over_once_it_is_ready_and_not_before(tmp_path: Path) -> None:
    """Finding R18: the old agent was mute from the new one's first moment on."""
    with instance(tmp_path, 1, ready=True) as old:
        eventually(old.lock.publishing)
        with instance(tmp_path, 2, ready=False) as new:
            # Long enough for the old one to have looked: it has seen the new one.
            eventually(lambda: old.lock._others)
            assert (old.lock.publishing(), new.lock.publishing()) == (True, False)
            assert old.changes == [True]
            new.ready.set()
            eventually(new.lock.publishing)
            assert not old.lock.publishing()
            assert old.changes == [True, False]
            assert (old.lock.stands_by, new.lock.stands_by) == ("pod-2", "")
        eventually(old.lock.publishing)


def test_a_lone_instance_publishes_before_it_is_ready(tmp_path: Path) -> None:
    with instance(tmp_path, 1, ready=False) as lone:
        eventually(lone.lock.publishing)
        assert lone.lock.stands_by == ""


def test_two_that_are_not_ready_leave_it_to_the_first_and_the_ready_one_takes_it(tmp_path: Path) -> None:
    with instance(tmp_path, 1, ready=False) as old:
        eventually(old.lock.publishing)
        with instance(tmp_path, 2, ready=False) as new:
            eventually(lambda: old.lock._others)
            assert old.lock.publishing()
            new.ready.set()
            eventually(new.lock.publishing)


def test_an_older_instance_that_is_ready_takes_nothing_from_a_newer_one(tmp_path: Path) -> None:
    with instance(tmp_path, 2, ready=False) as new:
        eventually(new.lock.publishing)
        with instance(tmp_path, 1, ready=True) as old:
            eventually(lambda: new.lock._others and old.lock.stands_by == "pod-2")
            assert new.changes == [True]
            new.ready.set()
            eventually(lambda: new.lock._is_ready)
            assert (new.lock.publishing(), old.lock.publishing()) == (True, False)


def test_a_lasting_standby_is_reported_once_and_a_rolling_update_is_not(tmp_path: Path) -> None:
    """Finding K7."""
    with instance(tmp_path, 1, ready=True, standby_seconds=0.5) as old:
        eventually(old.lock.publishing)
        with instance(tmp_path, 2, ready=True, standby_seconds=0.5) as new:
            eventually(lambda: old.publishers)
            with instance(tmp_path, 3, ready=True, standby_seconds=60.0) as newest:
                eventually(newest.lock.publishing)
                eventually(lambda: old.lock.stands_by == "pod-3")
            eventually(new.lock.publishing)
            assert old.publishers == ["pod-2"]
            assert new.publishers == []
        eventually(old.lock.publishing)


def test_many_instances_that_come_and_go_have_one_publisher_at_a_time(tmp_path: Path) -> None:
    with ExitStack() as running:
        all_ = [running.enter_context(instance(tmp_path, age, ready=age % 2 == 0)) for age in (3, 1, 4, 2, 5)]
        eventually(all_[2].lock.publishing)
        for each in all_:
            each.ready.set()
        eventually(all_[4].lock.publishing)
        assert sum(each.lock.publishing() for each in all_) == 1


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_of_an_older_version_counts_as_not_ready(tmp_path: Path, mode: int) -> None:
    name = tmp_path / "instance-00000000000099000000-0123abcd.lock"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, mode)
    os.chmod(name, mode)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with instance(tmp_path, 1, ready=True) as own:
            eventually(own.lock.publishing)
            eventually(lambda: own.lock._others)
            assert own.lock.publishing()
    finally:
        os.close(descriptor)
