"""The durable file: torn at any byte, it falls back to the older slot and reports that."""

import os
from pathlib import Path

import pytest

from gpuvitals.durable import DurableFile, DurableFileError, Loaded
from support.files import no_file_larger_than, unprivileged


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    file.save(b'{"a":1}')

    assert file.load().payload == b'{"a":1}'
    assert sorted(os.listdir(tmp_path)) == ["state"]


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    loaded = DurableFile(tmp_path / "state").load()

    assert (loaded.payload, loaded.recovered) == (None, "")


def test_torn_at_any_byte_the_previous_generation_is_used_and_named(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    file.save(b'{"generation":1}')
    file.save(b'{"generation":2}')
    newest = file.load().path
    assert newest is not None
    whole = newest.read_bytes()
    end = len(whole.rstrip(b"\n"))
    for length in range(end):
        newest.write_bytes(whole[:length])
        loaded = file.load()
        assert loaded.payload == b'{"generation":1}'
        assert f"{newest}: " in loaded.recovered


def test_both_generations_torn_is_nothing_with_a_reason(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    for text in (b"1", b"2"):
        file.save(text)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\0" * 10)

    loaded = file.load()
    assert loaded.payload is None
    assert loaded.recovered


def test_an_edited_payload_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = DurableFile(path)
    file.save(b'{"a":1}')
    path.write_bytes(path.read_bytes().replace(b'"a":1', b'"a":2'))

    assert file.load().payload is None


def test_a_planted_symlink_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "state").symlink_to(victim)
    file = DurableFile(tmp_path / "state")

    assert file.load().payload is None
    file.save(b"1")
    assert victim.read_bytes() == b"untouched"
    assert file.load().payload == b"1"


def test_a_folder_that_is_gone_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DurableFileError, match="absent"):
        DurableFile(tmp_path / "absent" / "state").save(b"1")


def test_another_files_second_name_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "state").hardlink_to(victim)
    file = DurableFile(tmp_path / "state")

    file.save(b"1")
    assert victim.read_bytes() == b"untouched"
    assert file.load().payload == b"1"


def test_slots_are_written_in_turn_and_keep_their_size(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    for number in range(6):
        file.save(b"%d" % number * (1000 - number))
        assert file.load().payload == b"%d" % number * (1000 - number)

    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"state": 4096, "state.2": 4096}


def test_what_another_instance_saved_is_not_overwritten_first(tmp_path: Path) -> None:
    ours, theirs = DurableFile(tmp_path / "state"), DurableFile(tmp_path / "state")
    ours.save(b"1")
    theirs.save(b"2")
    ours.save(b"3")
    (tmp_path / "state").write_bytes(b"")

    assert theirs.load().payload == b"2"


def test_a_torn_slot_is_the_one_that_is_written_next(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    file.save(b"1")
    file.save(b"2")
    newest = file.load().path
    assert newest is not None
    newest.write_bytes(newest.read_bytes().replace(b"2}", b"3}"))
    file.save(b"4")

    assert newest == file.load().path
    assert file.load() == Loaded(payload=b"4", path=newest)


def test_a_disk_that_refuses_is_an_error_and_the_newest_content_stays(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    file.save(b"1")
    file.save(b"2")
    for _ in range(2):
        with (
            no_file_larger_than(4096),
            pytest.raises(DurableFileError, match=r"state: not written.*previous content stays"),
        ):
            file.save(b"3" * 9000)
        assert DurableFile(tmp_path / "state").load() == Loaded(payload=b"2", path=tmp_path / "state.2")

    file.save(b"4")
    assert file.load() == Loaded(payload=b"4", path=tmp_path / "state")


def test_a_folder_that_refuses_new_files_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the folders above are closed to nobody; a relative path does not cross them
    file = DurableFile(Path("state"))
    file.save(b"1")
    tmp_path.chmod(0o555)
    try:
        with unprivileged(), pytest.raises(DurableFileError, match="state: not written"):
            file.save(b"2")
    finally:
        tmp_path.chmod(0o700)

    assert file.load().payload == b"1"
