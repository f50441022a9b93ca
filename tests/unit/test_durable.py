"""The durable file: torn anywhere it falls back, and says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.durable import DurableFile, DurableFileError

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root ignores a folder's mode, so as root the block runs as nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    file.save(b'{"a":1}')

    assert file.load().payload == b'{"a":1}'
    assert sorted(os.listdir(tmp_path)) == ["state"]


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    loaded = DurableFile(tmp_path / "state").load()

    assert (loaded.payload, loaded.recovered) == (None, "")


def test_torn_at_any_byte_the_previous_generation_is_used_and_named(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = DurableFile(path)
    file.save(b'{"generation":1}')
    file.save(b'{"generation":2}')
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        loaded = file.load()
        assert loaded.payload == b'{"generation":1}'
        assert str(path) in loaded.recovered


def test_both_generations_torn_is_nothing_with_a_reason(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "state")
    for text in (b"1", b"2"):
        file.save(text)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\0" * 10)

    loaded = file.load()
    assert loaded.payload is None
    assert loaded.recovered


def test_an_edited_payload_is_not_believed(tmp_path: Path) -> None:
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


def test_a_symlink_planted_at_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / f".state.{os.getpid()}.tmp").symlink_to(victim)
    file = DurableFile(tmp_path / "state")

    file.save(b"1")
    assert victim.read_bytes() == b"untouched"
    assert file.load().payload == b"1"
    assert not (tmp_path / "state").is_symlink()


def test_a_folder_that_refuses_writes_is_an_error_and_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the folders above are closed to nobody; a relative path does not cross them
    file = DurableFile(Path("state"))
    file.save(b"1")
    file.save(b"2")
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    tmp_path.chmod(0o555)
    try:
        with (
            unprivileged(),
            pytest.raises(DurableFileError, match=r"state: not written.*previous content stays"),
        ):
            file.save(b"3")
    finally:
        tmp_path.chmod(0o700)

    assert {name: Path(name).read_bytes() for name in os.listdir()} == before
    assert file.load().payload == b"2"
