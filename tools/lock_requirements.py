"""Resolves requirements/*.txt again: exact versions, hashes, no URLs. Run by `make lock`.

`agent.txt` is everything that the node image installs; `run.txt` is everything that a checkout runs on, the simulation
included. A version that is locked already stays while it satisfies its source.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FLAGS = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--quiet",
)
_TARGETS = {
    "run.txt": [
        "--no-emit-package=gpuvitals",
        "--extra=kubeconfig",
        "pyproject.toml",
        "sim/pyproject.toml",
    ],
    "agent.txt": ["--constraints=requirements/run.txt", "pyproject.toml"],
    "build.txt": ["requirements/build.in"],
    "sbom.txt": [
        "--constraints=requirements/run.txt",
        "--constraints=requirements/build.txt",
        "requirements/sbom.in",
    ],
    "dev.txt": [
        "--constraints=requirements/run.txt",
        "--constraints=requirements/sbom.txt",
        "requirements/dev.in",
    ],
}


def main() -> int:
    """Writes the files. Returns the exit code of the first resolver run that fails, else 0."""
    environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    for target, sources in _TARGETS.items():
        output = f"--output-file=requirements/{target}"
        command = [sys.executable, "-m", "uv", "pip", "compile", *_FLAGS, *sources, output]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=600).returncode
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
