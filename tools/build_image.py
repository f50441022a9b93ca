"""Builds the image of the node agent with podman or docker, and copies its SBOM to dist/. Run by `make image`.

Exit codes: 0; 1 if the build failed; 2 for a digest that is missing or malformed; 3 if no container engine is there.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("podman", "docker")
SBOM_IN_IMAGE = "/opt/gpuvitals/sbom.cdx.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ENGINE_SECONDS = 30.0


def engine() -> str:
    """The first engine whose `info` succeeds; empty if none does. A docker client without its daemon is none."""
    for name in ENGINES:
        if shutil.which(name) and _succeeds([name, "info"]):
            return name
    return ""


def build(program: str, digest: str, tag: str, output: Path) -> bool:
    """Builds the image and copies its SBOM. Returns whether each step succeeded; the engine prints its own errors."""
    command = [program, "build", "--file", "deploy/image/Containerfile", "--tag", tag]
    command += ["--build-arg", f"PYTHON_DIGEST={digest}", "--build-arg", f"REVISION={_revision()}", "."]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        return False
    created = subprocess.run([program, "create", tag], stdout=subprocess.PIPE, text=True, check=False)
    container = created.stdout.strip()
    if created.returncode != 0:
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    copied = subprocess.run([program, "cp", f"{container}:{SBOM_IN_IMAGE}", str(output)], check=False)
    removed = subprocess.run([program, "rm", container], stdout=subprocess.DEVNULL, check=False)
    return copied.returncode == removed.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="build_image", description="Builds the image of the node agent.")
    parser.add_argument("--digest", required=True, help="digest of the base image, python:3.11-slim-bookworm")
    parser.add_argument("--tag", required=True, help="name and tag of the image")
    parser.add_argument("--output", type=Path, required=True, help="file for the SBOM")
    options = parser.parse_args(arguments)
    program = engine()
    if not program:
        print("image: neither podman nor docker is there and working, so no image is built", file=sys.stderr)
        return 3
    if not _DIGEST.fullmatch(options.digest):
        print(
            f"image: PYTHON_DIGEST={options.digest}: expected sha256: and 64 hexadecimal digits, the digest of "
            "python:3.11-slim-bookworm; docs/guides/install.md has the command that prints it",
            file=sys.stderr,
        )
        return 2
    if not build(program, options.digest, options.tag, options.output):
        return 1
    print(f"{options.tag}\n{options.output}")
    return 0


def _revision() -> str:
    """The commit of the checkout; `unknown` outside a git repository."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout.strip() or "unknown"


def _succeeds(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ENGINE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
