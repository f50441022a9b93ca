"""A kill -9 before every file-system call of the agent, and before it publishes, loses nothing that was published."""

import os
import sys
from pathlib import Path
from subprocess import run

_ROOT = Path(__file__).parents[3]


def test_killed_at_every_point_the_next_agent_shows_the_fault(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'tests'}:{_ROOT / 'driver'}"}
    done = run(
        [sys.executable, "-m", "support.crash.agent_crash", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20, "the points were not reached"
