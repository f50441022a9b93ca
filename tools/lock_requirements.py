"""Resolves requirements/{agent,build,run,dev}.txt anew: exact versions, hashes, no URLs. Run by `make lock`.

`agent.txt` is all that the node image installs; `run.txt` is what a checkout runs on, the simulation among it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FLAGS = [
    "--universal",
    "--python-version",
    "3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "-q",
]
_TARGETS = {
    "run.txt": [
        "--no-emit-package",
        "gpuvitals",
        "--extra",
        "kubeconfig",
        "pyproject.toml",
        "sim/pyproject.toml",
    ],
    "agent.txt": ["-c", "requirements/run.txt", "pyproject.toml"],
    "build.txt": ["requirements/build.in"],
    "dev.txt": ["-c", "requirements/run.txt", "requirements/dev.in"],
}


def main() -> int:
    """Writes the files; the exit code is that of the first resolver run that fails, else 0."""
    environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    for target, sources in _TARGETS.items():
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            *_FLAGS,
            *sources,
            "-o",
            f"requirements/{target}",
        ]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=600).returncode
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
