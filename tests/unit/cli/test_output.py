"""Every verb whose output can't be written says so in one line and by its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuvitals.cli.main import main
from support.saved_logs import dmesg, xid

LINE = "NVRM: Xid (PCI:0000:05:00): 79, x"
_COMMAND = (sys.executable, "-m", "gpuvitals.cli.main")
_PATIENCE = 120


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "dmesg"
    path.write_bytes(dmesg([(float(at), xid(79, bus=f"{at:04x}:01:00")) for at in range(50)]))
    return str(path)


def verbs(log: str, folder: Path) -> dict[str, tuple[str, ...]]:
    claim = folder / "claim.yaml"
    claim.write_text(
        "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nmetadata: {name: a}\nspec: {devices: {}}\n"
    )
    return {
        "help": ("--help",),
        "version": ("--version",),
        "explain": ("explain", "--line", LINE),
        "explain json": ("explain", "--json", "--line", LINE),
        "replay": ("replay", log),
        "replay json": ("replay", "--json", log),
        "lint": ("lint", "--json", str(claim)),
        "demo": ("demo", "--list"),
        "help of a verb": ("report", "--help"),
    }


VERBS = (
    "help",
    "version",
    "explain",
    "explain json",
    "replay",
    "replay json",
    "lint",
    "demo",
    "help of a verb",
)


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_one_line_and_a_code(verb: str, log: str, tmp_path: Path) -> None:
    """Finding L11, finding U4."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            (*_COMMAND, *verbs(log, tmp_path)[verb]),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == b"gpuvitals: standard output: no space left on device\n"


@pytest.mark.parametrize("verb", VERBS)
def test_a_closed_pipe_is_one_line_and_a_code(verb: str, log: str, tmp_path: Path) -> None:
    """Finding L11, finding U4."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            (*_COMMAND, *verbs(log, tmp_path)[verb]),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
        )
    finally:
        os.close(writer)

    assert done.returncode == 141
    assert done.stderr == b"gpuvitals: standard output: the reader has closed the pipe\n"


def test_a_closed_standard_output_is_one_line_and_a_code() -> None:
    """Finding U4."""
    command = f"{sys.executable} -m gpuvitals.cli.main explain --line '{LINE}' >&-"
    done = subprocess.run(("sh", "-c", command), stderr=subprocess.PIPE, timeout=_PATIENCE, check=False)

    assert (done.returncode, done.stderr) == (1, b"gpuvitals: standard output is closed\n")


def test_nothing_to_write_to_at_all_still_ends_with_a_code() -> None:
    """Finding U4."""
    command = f"{sys.executable} -m gpuvitals.cli.main explain --line '{LINE}' >/dev/full 2>/dev/full"

    assert subprocess.run(("sh", "-c", command), timeout=_PATIENCE, check=False).returncode == 1


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """Finding U4."""
    with pytest.raises(SystemExit) as ended:
        main(("--version",))

    assert ended.value.code == 0
    name, version = capsys.readouterr().out.split()
    assert name == "gpuvitals"
    assert version[0].isdigit()
