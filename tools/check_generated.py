"""Regenerates every generated file and fails if a result differs from the committed file. Run by `make check`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATORS = tuple(
    sorted(Path("tools").joinpath(path.name) for path in (ROOT / "tools").glob("generate_*.py"))
)
OUTPUTS = (
    "driver/gpuvitals/proto",
    "driver/gpuvitals/health/xid_catalog.py",
    "docs/architecture.svg",
    "docs/reference",
    "deploy/helm/gpuvitals/templates",
)


def main() -> int:
    """Prints the files that differ from their generator's output. Returns 0 if there is none, else 1."""
    before = _contents()
    for generator in GENERATORS:
        subprocess.run(
            [sys.executable, str(generator)], cwd=ROOT, check=True, capture_output=True, timeout=120
        )
    after = _contents()
    stale = sorted(str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    for path in stale:
        print(f"{path}: differs from its generator's output; commit the regenerated file")
    return 1 if stale else 0


def _contents() -> dict[Path, bytes]:
    files: dict[Path, bytes] = {}
    for output in OUTPUTS:
        root = ROOT / output
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[path.relative_to(ROOT)] = path.read_bytes()
    return files


if __name__ == "__main__":
    sys.exit(main())
