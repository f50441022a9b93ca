"""Regenerates every generated file and fails where the result differs from what is committed. Run by `make check`."""

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
    """0 where the committed files are what the generators write; else 1 and the names of those that are not."""
    before = _contents()
    for generator in GENERATORS:
        subprocess.run(
            [sys.executable, str(generator)], cwd=ROOT, check=True, capture_output=True, timeout=120
        )
    after = _contents()
    stale = sorted(str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    for path in stale:
        print(f"{path}: differs from what its generator writes; commit the regenerated file")
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
