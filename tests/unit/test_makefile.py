"""The first step of `make demo`, with small scripts in place of Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKS = "#!/bin/sh\n"
HAS_NO_PIP = """#!/bin/sh
case "$*" in *pip*) exit 1;; esac
"""
MAKES_VENVS = """#!/bin/sh
echo "$*" >> asked
case "$*" in
  "-m venv "*) mkdir -p .venv/bin; touch .venv/pyvenv.cfg; echo '#!/bin/sh' > .venv/bin/python; chmod +x .venv/bin/python;;
esac
"""


@pytest.mark.parametrize(
    ("python", "configuration", "made"),
    [
        pytest.param(None, False, True, id="none yet"),
        pytest.param(HAS_NO_PIP, True, True, id="half made"),
        pytest.param(WORKS, False, True, id="not a venv"),
        pytest.param(WORKS, True, False, id="whole"),
    ],
)
def test_a_venv_that_is_not_whole_is_made_again(
    tmp_path: Path, python: str | None, configuration: bool, made: bool
) -> None:
    """Finding U4: a first `make demo` without ensurepip, or ended in its middle, spoiled every later one."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("requirements", "sim"):
        (tmp_path / folder).mkdir()
    for name in ("requirements/build.txt", "requirements/run.txt", "pyproject.toml", "sim/pyproject.toml"):
        (tmp_path / name).touch()
    programs = {"python": MAKES_VENVS} | ({".venv/bin/python": python} if python else {})
    for name, text in programs.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    if configuration:
        (tmp_path / ".venv" / "pyvenv.cfg").touch()

    ended = subprocess.run(
        ["make", ".venv/.run-installed", f"PYTHON={tmp_path}/python"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert ("-m venv --clear .venv" in asked) is made


def test_recipes_may_write_bytecode() -> None:
    """Without it each agent of a test compiles all its modules at its start."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-f", "-", "shown"],
        input="shown:\n\t@echo $${PYTHONDONTWRITEBYTECODE-unset}\n",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert shown.stdout == "unset\n", shown.stderr
