"""`gpuvitals demo` as a person starts it: a process of its own, played to its end or kept up."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

GPUVITALS = [sys.executable, "-m", "gpuvitals.cli.main"]


def played(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A demo that has ended. `variables` are added to the environment."""
    return subprocess.run(
        [*GPUVITALS, "demo", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@contextmanager
def kept(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A demo that stays up, and its folder."""
    process = subprocess.Popen(
        [*GPUVITALS, "demo", "--keep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if "gpuvitals explain --agent" in line:
                break
        else:
            pytest.fail(said)
        yield process, Path(said.rpartition("export KUBECONFIG=")[2].splitlines()[0]).parent
    finally:
        # A demo that is killed leaves its agents behind.
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=10)


def verb_output(arguments: Sequence[str], folder: Path) -> str:
    """The output of a verb for the demo in that folder."""
    environment = {**os.environ, "KUBECONFIG": str(folder / "kubeconfig")}
    return subprocess.run(
        [*GPUVITALS, *arguments], capture_output=True, text=True, timeout=30, check=True, env=environment
    ).stdout
