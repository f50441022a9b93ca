"""Crash points: kill -9 before every file-system call of every operation; a fresh process must find nothing lost."""

import os
import sys
from pathlib import Path
from subprocess import run

import pytest

from support.crash.crash_points import STORIES

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("story", sorted(STORIES))
def test_killed_at_every_point_converges_without_losing_a_claim(story: str, tmp_path: Path) -> None:
    """No device has two holders and no claim is lost after every point, after the replay, and after everything is unprepared."""
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'tests'}:{_ROOT / 'driver'}"}
    done = run(
        [sys.executable, "-m", "support.crash.crash_points", str(tmp_path), story],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10, "the points were not reached"
