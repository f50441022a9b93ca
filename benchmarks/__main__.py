"""`make bench`: runs the benchmarks, prints their table, and updates the measured sections of the page.

BENCH=B1,B5 selects benchmarks, ROUNDS=n sets the number of rounds (default 5). Exit code: 0; 1 if a ratio was missed
beyond the noise; 2 if a measurement failed.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import (
    claim_and_stream,
    fault_latency,
    fault_writes,
    footprint,
    idle_requests,
    kernel_log,
    prepare,
    prepare_in_storm,
    repair,
    slice_sizes,
    start_stop,
)
from benchmarks.harness import build
from benchmarks.harness.figures import Figure, is_failure
from benchmarks.harness.lab import Lab
from benchmarks.harness.machine import Meter
from benchmarks.harness.page import page, table
from benchmarks.harness.processes import LabError
from cluster.build import BuildError
from support.realkube.server import ServerError

BENCHMARKS: dict[str, ModuleType] = {
    "B1": fault_latency,
    "B2": fault_writes,
    "B4": kernel_log,
    "B5": prepare,
    "B6": prepare_in_storm,
    "B7": slice_sizes,
    "B9": footprint,
    "B10": start_stop,
    "B11": repair,
    "B12": claim_and_stream,
    "B15": idle_requests,
}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "benchmarks.md"
_ROUNDS = 5


def main() -> int:
    """Runs the benchmarks that the environment selects."""
    try:
        chosen, rounds = _chosen(os.environ.get("BENCH", "")), _rounds(os.environ.get("ROUNDS", ""))
    except ValueError as error:
        _say(f"error: {error}")
        return 2
    meter = Meter()
    try:
        figures = _measured(chosen, rounds)
    except (LabError, ServerError, BuildError, build.BuildError) as error:
        _say(f"error: {error}")
        return 2
    sys.stdout.write(f"{table(figures)}\n")
    about = {number: module.__doc__ or number for number, module in BENCHMARKS.items()}
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(page(figures, about, meter.machine(), before), encoding="utf-8")
    _say(f"written: {PAGE.name}")
    return 1 if is_failure(figures) else 0


def _measured(chosen: Sequence[str], rounds: int) -> list[Figure]:
    figures: list[Figure] = []
    with Lab(_say) as lab:
        for number in chosen:
            figures += BENCHMARKS[number].run(lab, rounds)
    return figures


def _chosen(text: str) -> list[str]:
    """Raises ValueError for a benchmark that does not exist."""
    wanted = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(BENCHMARKS))
    if unknown:
        raise ValueError(f"BENCH: {unknown[0]} does not exist; there are {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if not wanted or name in wanted]


def _rounds(text: str) -> int:
    """Raises ValueError for anything but a positive number."""
    if not text:
        return _ROUNDS
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"ROUNDS: {text} is not a number of rounds; expected 1 or more")
    return int(text)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
