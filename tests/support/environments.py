"""Virtual environments as users and the node image have them: a lock's packages and wheels of this tree, no checkout.

The packages are copied from the environment of the tests, which has the same versions, so no network is needed.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).parents[2]
AGENT_LOCK = ROOT / "requirements" / "agent.txt"
RUN_LOCK = ROOT / "requirements" / "run.txt"
_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One virtual environment without pip."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def install(self, wheel: Path) -> None:
        """Installs a wheel alone: a dependency that is not there already stays missing."""
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-index"]
        _run([*command, "--no-deps", "--no-cache", f"--python={self.python}", str(wheel)])

    def program(
        self, *arguments: str, environment: Mapping[str, str] | None = None, seconds: float = _SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Runs the installed `gpuvitals` program to its end, in the environment's own folder."""
        return subprocess.run(
            [str(self.folder / "bin" / "gpuvitals"), *arguments],
            cwd=self.folder,
            env={**clean(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def new_environment(folder: Path, lock: Path | None = None) -> Environment:
    """An environment with the packages of a lock, or with none."""
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder=folder)
    for name, version in pins(lock).items() if lock else ():
        _copy(metadata.distribution(name), version, made.packages)
    return made


def pins(lock: Path) -> dict[str, str]:
    """The versions of a lock by package. Entries for other platforms are left out."""
    found: dict[str, str] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)(?: ; (.*?))? \\$", line):
            name, version, marker = match.groups()
            if not marker or Marker(marker).evaluate():
                found[name] = version
    return found


def normal_name(requirement: str) -> str:
    """The name of a requirement in the form of the lock: `PyYAML>=6` is `pyyaml`."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def build_wheel(project: Path, folder: Path) -> Path:
    """The wheel of `pyproject.toml` in that folder, as pip builds it."""
    _run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=project,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def clean() -> dict[str, str]:
    """The variables of this process but those by which Python finds modules elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _copy(distribution: metadata.Distribution, version: str, target: Path) -> None:
    assert distribution.version == version, (
        f"{distribution.name}: {distribution.version}, locked {version}: make setup"
    )
    for file in distribution.files or ():
        source = Path(str(file.locate()))
        if ".." in file.parts or not source.exists():  # programs of bin/, and bytecode that nobody needed yet
            continue
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, path)  # with its time, so that the bytecode stays valid


def _run(command: Sequence[str], cwd: Path = ROOT) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
