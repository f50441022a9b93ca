"""The journal: whole records are read back in order, and damage costs the damaged record and is named."""

import os
from pathlib import Path

import pytest

from gpuvitals.durable import DurableFileError
from gpuvitals.journal import Journal, JournalRecord
from support.files import no_file_larger_than, unprivileged

BLOCK = 4096


def journal(folder: Path, blocks: int = 4) -> Journal:
    created = Journal(folder / "journal", capacity_bytes=blocks * BLOCK)
    created.create()
    return created


def payload(number: int, size: int = 10) -> bytes:
    return b'"%s"' % (b"%d" % number).rjust(size)


def test_records_are_read_back_in_order(tmp_path: Path) -> None:
    file = journal(tmp_path)
    assert file.append(7, payload(7))
    assert file.append(8, payload(8, 5000))

    loaded = file.load()
    assert loaded.records == (JournalRecord(7, payload(7)), JournalRecord(8, payload(8, 5000)))
    assert loaded.trouble == ""
    assert os.listdir(tmp_path) == ["journal"]


def test_a_missing_journal_has_no_records_and_no_trouble(tmp_path: Path) -> None:
    loaded = Journal(tmp_path / "journal").load()
    assert (loaded.records, loaded.trouble) == ((), "")


def test_a_full_journal_takes_no_record_until_it_is_replaced(tmp_path: Path) -> None:
    file = journal(tmp_path, blocks=2)
    assert file.append(1, payload(1))
    assert not file.is_half_full
    assert file.append(2, payload(2))
    assert file.is_half_full
    assert not file.append(3, payload(3))
    assert len(file.load().records) == 2

    file.create()
    assert file.load().records == ()
    assert file.append(3, payload(3))


def test_a_record_larger_than_the_journal_is_not_written(tmp_path: Path) -> None:
    file = journal(tmp_path, blocks=1)
    assert not file.append(1, payload(1, BLOCK))
    assert file.load().records == ()


def test_an_append_changes_neither_the_size_nor_the_inode(tmp_path: Path) -> None:
    file = journal(tmp_path)
    before = (tmp_path / "journal").stat()
    file.append(1, payload(1))

    after = (tmp_path / "journal").stat()
    assert (after.st_size, after.st_ino, after.st_blocks) == (before.st_size, before.st_ino, before.st_blocks)


@pytest.mark.parametrize("torn", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_record_torn_at_any_byte_costs_itself_and_is_named(tmp_path: Path, torn: int) -> None:
    file = journal(tmp_path)
    for number in range(3):
        file.append(number, payload(number))
    whole = (tmp_path / "journal").read_bytes()
    start, end = torn * BLOCK, whole.index(b"\n", torn * BLOCK)
    for cut in range(start + 1, end):
        blank = b"\n" * (end - cut)
        (tmp_path / "journal").write_bytes(whole[:cut] + blank + whole[end:])
        loaded = file.load()
        assert [record.sequence for record in loaded.records] == [n for n in range(3) if n != torn]
        assert f"record at byte {start}: " in loaded.trouble


def test_a_changed_payload_does_not_match_its_checksum(tmp_path: Path) -> None:
    file = journal(tmp_path)
    file.append(1, b'{"a":1}')
    path = tmp_path / "journal"
    path.write_bytes(path.read_bytes().replace(b'"a":1', b'"a":2'))

    loaded = file.load()
    assert loaded.records == ()
    assert loaded.trouble == f"{path}: record at byte 0: checksum does not match the payload"


@pytest.mark.parametrize("make", ["directory", "fifo", "text", "dangling", "unreadable"])
def test_a_path_that_is_no_journal_is_named_and_never_waited_for(tmp_path: Path, make: str) -> None:
    path = tmp_path / "journal"
    match make:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "text":
            path.write_bytes(b"\x00\xff no journal")
        case "unreadable":
            path.touch(mode=0)
        case _:
            path.symlink_to(tmp_path / "nowhere")
    with unprivileged():
        loaded = Journal(path).load()

    assert loaded.records == ()
    assert str(path) in loaded.trouble


def test_a_file_of_another_process_takes_no_record(tmp_path: Path) -> None:
    """In a hand-over the successor replaces the journal: a late append of the predecessor goes nowhere."""
    ours = journal(tmp_path)
    theirs = journal(tmp_path)
    assert not ours.append(1, payload(1))
    assert not ours.is_open
    assert theirs.append(2, payload(2))
    assert [record.sequence for record in theirs.load().records] == [2]
    assert not Journal(tmp_path / "journal").append(3, payload(3))


def test_a_symlink_or_a_second_name_is_never_written_through(tmp_path: Path) -> None:
    file = journal(tmp_path)
    victim = tmp_path / "victim"
    (tmp_path / "journal").rename(victim)
    untouched = victim.read_bytes()
    (tmp_path / "journal").symlink_to(victim)
    assert not file.append(1, payload(1))
    assert victim.read_bytes() == untouched

    again = journal(tmp_path)
    os.link(tmp_path / "journal", tmp_path / "second")
    assert not again.append(1, payload(1))
    assert (tmp_path / "second").read_bytes() == b"\n" * 4 * BLOCK


def test_a_disk_that_refuses_an_append_is_an_error_and_ends_the_file(tmp_path: Path) -> None:
    file = journal(tmp_path)
    file.append(1, payload(1))
    with no_file_larger_than(BLOCK + 10), pytest.raises(DurableFileError, match="record 2 not written"):
        file.append(2, payload(2, 100))

    assert not file.is_open
    assert [record.sequence for record in file.load().records] == [1]
    assert not file.append(3, payload(3))


def test_a_full_disk_leaves_the_former_journal_and_no_other_file(tmp_path: Path) -> None:
    file = journal(tmp_path)
    file.append(1, payload(1))
    with no_file_larger_than(BLOCK), pytest.raises(DurableFileError, match="not created"):
        file.create()

    assert [record.sequence for record in file.load().records] == [1]
    assert os.listdir(tmp_path) == ["journal"]


def test_a_folder_that_takes_no_file_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with unprivileged(), pytest.raises(DurableFileError, match="not created"):
        journal(tmp_path)
    with pytest.raises(DurableFileError, match="absent"):
        journal(tmp_path / "absent")


def test_a_journal_is_removed(tmp_path: Path) -> None:
    file = journal(tmp_path)
    file.remove()
    assert os.listdir(tmp_path) == []
    assert not file.append(1, payload(1))
    file.remove()
