"""The drop-in folder with real files: their reports, their owner and mode, and invalid content."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuvitals.model.signal import ExternalReports, ReportedState, Signal, Source
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.reports.folder import DropInSettings, DropInSource
from support.waiting import eventually


class Folder:
    """A folder that is scanned every 20 ms, with every signal sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[ExternalReports] = []
        self.bad: list[tuple[str, str]] = []
        settings = DropInSettings(folder=path, period_seconds=0.02)
        self.source = DropInSource(settings, SystemClock(), self, self)

    def put(self, signal: Signal) -> None:
        assert isinstance(signal, ExternalReports)
        assert signal.source is Source.DROP_IN
        self.sent.append(signal)

    def refused(self, place: str, why: str) -> None:
        self.bad.append((place, why))

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """As a program should: under another name first, then renamed."""
        made = self.path / f".{name}.tmp"
        made.write_text(text, encoding="utf-8")
        made.chmod(mode)
        return made.rename(self.path / name)

    def reports(self, *expected: tuple[str, ReportedState, str, str]) -> bool:
        if not self.sent:
            return False
        last = self.sent[-1].reports
        return tuple((each.gpu, each.state, each.by, each.reason) for each in last) == expected


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = tmp_path / "reports.d"
    made.mkdir(mode=0o755)
    scanned = Folder(made)
    scanned.source.start()
    yield scanned
    scanned.source.stop(2)


GOOD = ("gpu-1", ReportedState.BAD, "burn-in.txt", "failed the burn-in")


def test_a_file_stands_for_as_long_as_it_is_there(folder: Folder) -> None:
    eventually(folder.reports)
    file = folder.write("burn-in.txt", "gpu-1 bad failed the burn-in\n")
    eventually(lambda: folder.reports(GOOD))
    entry = {"gpu": "gpu-2", "say": "degraded", "by": "nightly", "reason": "slow"}
    folder.write("nightly.json", json.dumps([entry]))
    eventually(lambda: folder.reports(GOOD, ("gpu-2", ReportedState.DEGRADED, "nightly", "slow")))
    file.unlink()
    eventually(lambda: folder.reports(("gpu-2", ReportedState.DEGRADED, "nightly", "slow")))

    assert len(folder.sent) == 4
    assert folder.bad == []


def test_a_folder_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    scanned = Folder(tmp_path / "none")
    scanned.source.start()
    eventually(scanned.reports)
    scanned.source.stop(2)

    assert (len(scanned.sent), scanned.bad) == (1, [])


def test_a_file_that_goes_bad_leaves_standing_what_it_said(folder: Folder) -> None:
    folder.write("burn-in.txt", "gpu-1 bad failed the burn-in\n")
    eventually(lambda: folder.reports(GOOD))
    folder.write("burn-in.txt", "gpu-1 worse\n")
    eventually(lambda: folder.bad)
    time.sleep(0.1)

    assert folder.reports(GOOD)
    assert len(folder.sent) <= 2
    assert folder.bad == [(str(folder.path / "burn-in.txt"), "entry 1: expected GPU bad|degraded REASON")]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: (path / "a.txt").symlink_to("/etc/hostname"), "symbolic links"),
        (lambda path: (path / "a.txt").mkdir(), "is no regular file"),
        (lambda path: os.mkfifo(path / "a.txt"), "is no regular file"),
        (lambda path: _written(path / "a.txt", 0o644, b"x" * 16_385), "has 16385 bytes, more than 16384"),
        (lambda path: _written(path / "a.txt", 0o644, b"gpu-1 bad \xff"), "is not UTF-8"),
        (lambda path: _written(path / "a.txt", 0o666), "can be written by others (mode 0666)"),
        (lambda path: _written(path / "a.json", 0o644), "the list: expected `array`"),
    ],
    ids=["symlink", "folder", "pipe", "too-long", "no-text", "others-may-write", "no-list"],
)
def test_a_file_that_cannot_be_trusted_is_told_once_and_says_nothing(
    folder: Folder, make: Callable[[Path], object], why: str
) -> None:
    make(folder.path)
    eventually(lambda: folder.bad)
    time.sleep(0.1)

    assert len(folder.bad) == 1
    assert why in folder.bad[0][1]
    assert folder.reports()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_says_nothing(folder: Folder) -> None:
    made = folder.path / ".other"
    made.write_text("gpu-1 bad x")
    os.chown(made, 12345, 12345)
    made.rename(folder.path / "other.txt")
    eventually(lambda: folder.bad)

    assert folder.bad[-1][1] == "belongs to user 12345, expected root"


def test_a_folder_that_others_may_write_changes_nothing(folder: Folder) -> None:
    folder.write("burn-in.txt", "gpu-1 bad failed the burn-in\n")
    eventually(lambda: folder.reports(GOOD))
    folder.path.chmod(0o777)
    eventually(lambda: folder.bad)
    folder.write("more.txt", "gpu-2 bad x")
    time.sleep(0.1)

    assert folder.reports(GOOD)
    folder.path.chmod(0o755)
    eventually(lambda: folder.reports(GOOD, ("gpu-2", ReportedState.BAD, "more.txt", "x")))


def test_the_number_of_files_is_bounded(folder: Folder) -> None:
    eventually(folder.reports)
    folder.path.chmod(0o777)
    for index in range(65):
        folder.write(f"{index}.txt", f"gpu-{index} bad x")
    folder.path.chmod(0o755)
    eventually(lambda: any("has 65 files, more than 64" in why for _, why in folder.bad))

    assert folder.reports()


def _written(path: Path, mode: int, content: bytes = b'{"gpu": "x"}') -> None:
    made = path.with_name(f".{path.name}")
    made.write_bytes(content)
    made.chmod(mode)
    made.rename(path)
