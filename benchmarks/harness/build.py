"""Builds the Go peers into the cache folder that git ignores; a second run with the same sources does nothing."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / "peers"
CACHE = PEERS.parent.parent / ".cache" / "benchmarks"
PROGRAMS = ("driver", "kubelet", "scan", "watch")
BUILD_SECONDS = 20 * 60


class BuildError(Exception):
    """The peers can't be built; the text has the reason or the next step."""


def build_peers() -> dict[str, Path]:
    """The peers' programs by name, built if they are not cached. Raises BuildError."""
    folder = CACHE / _digest()
    found = {name: folder / name for name in PROGRAMS}
    if all(path.is_file() for path in found.values()):
        return found
    go = shutil.which("go")
    if go is None:
        raise BuildError("no go command in PATH: benchmarks/peers needs the Go that its go.mod names")
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", f"{partial}/"]
    command += [f"./{name}" for name in PROGRAMS]
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run(
        command,
        cwd=PEERS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"go build of benchmarks/peers ended with {done.returncode}:\n{done.stderr[-3000:]}")
    partial.replace(folder)
    return found


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([PEERS / "go.mod", PEERS / "go.sum", *PEERS.rglob("*.go")]):
        digest.update(str(path.relative_to(PEERS)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
