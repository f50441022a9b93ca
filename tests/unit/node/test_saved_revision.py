"""What is told waits for the memory, and the memory's owner lets the teller go first."""

import threading
import time

from gpuvitals.node.saved import LONGEST_SECONDS, SavedRevision


def test_a_writer_waits_until_its_revision_is_saved() -> None:
    saved = SavedRevision()
    order: list[str] = []

    def write() -> None:
        saved.wait_for(7)
        order.append("written")

    writer = threading.Thread(target=write)
    writer.start()
    saved.reached(6)
    assert order == []
    order.append("saved")
    saved.reached(7)
    writer.join(5)
    assert order == ["saved", "written"]


def test_what_was_saved_before_is_not_waited_for() -> None:
    saved = SavedRevision()
    saved.reached(7)
    began = time.monotonic()
    saved.wait_for(7)
    saved.wait_for(3)
    assert time.monotonic() - began < LONGEST_SECONDS / 2


def test_a_disk_that_hangs_hides_no_fault() -> None:
    began = time.monotonic()
    SavedRevision().wait_for(1)
    assert time.monotonic() - began >= LONGEST_SECONDS * 0.9
