"""Regenerates driver/gpuvitals/proto from api/proto. Run by `make protos`; `make check` compares the result."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "api" / "proto"
OUTPUT = ROOT / "driver" / "gpuvitals" / "proto"


def main() -> int:
    """Returns protoc's exit code. The outputs are replaced only if all could be generated; those of deleted sources go."""
    protos = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto"))
    with tempfile.TemporaryDirectory(dir=ROOT) as made:
        outputs = [f"--{kind}_out={made}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        code = int(protoc.main(["protoc", f"-I{SOURCE}", *outputs, *protos]))
        if code == 0:
            for stale in OUTPUT.glob("*_pb2*"):
                stale.unlink()
            for path in Path(made, "gpuvitals", "proto").iterdir():
                path.replace(OUTPUT / path.name)
    return code


if __name__ == "__main__":
    sys.exit(main())
