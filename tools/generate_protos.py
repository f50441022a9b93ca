"""Regenerates driver/gpuvitals/proto from api/proto. Run by `make protos`; `make check` compares the result."""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "api" / "proto"
OUTPUT = ROOT / "driver"


def main() -> int:
    """Returns protoc's exit code. Stale outputs are removed first, so a deleted .proto leaves nothing behind."""
    for stale in (OUTPUT / "gpuvitals" / "proto").glob("*_pb2*"):
        stale.unlink()
    protos = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto"))
    outputs = [f"--{kind}_out={OUTPUT}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    return int(protoc.main(["protoc", f"-I{SOURCE}", *outputs, *protos]))


if __name__ == "__main__":
    sys.exit(main())
