"""The corpus of kernel records: every line is classified as expected, and affects only the GPU that it names."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from gpuvitals.health.attribution import affects
from gpuvitals.health.xid_nvlink5 import nvlink5_action
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import GpuSignal
from gpuvitals.signals.kmsg.decode import kernel_signal
from gpuvitals.signals.kmsg.record import (
    SequenceEvent,
    header_sequence,
    is_continuation,
    kmsg_record,
    sequence_event,
)
from gpuvitals.signals.kmsg.xid_line import MALFORMED, Line, LineKind, XidClassifier
from support.signals import GPU, fold, good, judge, moment

DATA = Path(__file__).parents[2] / "data" / "kmsg"


def expectations() -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in (DATA / "expected.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(row)
        grouped.setdefault(entry["file"], []).append(entry)
    return grouped


def classified(path: Path) -> Iterator[tuple[int, Line, str | None]]:
    """Each record with its line number, its classification, and what its sequence number says."""
    classifier, previous = XidClassifier(), None
    lines = path.read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if is_continuation(line) and number > 1:
            continue
        sequence, record = header_sequence(line), kmsg_record(line)
        event = SequenceEvent.NEXT if sequence is None else sequence_event(previous, sequence)
        previous = sequence if sequence is not None else previous
        shown = None if event is SequenceEvent.NEXT else event.value
        yield number, MALFORMED if record is None else classifier.classify(record), shown


def as_expected(number: int, line: Line, event: str | None, file: str) -> dict[str, Any]:
    return {
        "file": file,
        "line": number,
        "kind": line.kind.value,
        "pci": line.bus_id,
        "code": 154 if line.kind is LineKind.RECOVERY_ACTION else line.code,
        "pid": line.pid,
        "process": line.process,
        "mig_gi": line.gpu_instance,
        "mig_ci": line.compute_instance,
        "link": line.link,
        "fatal": line.fatal,
        "caused_by": line.caused_by,
        "would_be": None if line.would_be is None else line.would_be.value,
        "seq_event": event,
        "extra": extra(line),
    }


def extra(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in (("uuid", line.uuid), ("serial", line.serial), ("nvswitch", line.switch)):
        if value is not None:
            found[key] = value
    if line.kind is LineKind.RECOVERY_ACTION:
        found |= {"action_from": line.action_from, "action_to": line.action_to}
    if line.words:
        found["words"] = [hex(word) for word in line.words]
    if line.nvlink5 is not None and line.code is not None:
        body = line.nvlink5
        info, status = (*body.words[:2], None, None)[:2]
        action = nvlink5_action(line.code, body.unit, info, status)
        found |= {
            "unit": body.unit,
            "cross_contain": body.cross_contain,
            "injected": body.injected,
            "intr_info": None if info is None else f"0x{info:08x}",
            "error_status": None if status is None else f"0x{status:08x}",
            "word_count": len(body.words),
            "nvlink5_action": None if action is None else action.value,
        }
    return found


@pytest.mark.parametrize("file", ["good-xid.kmsg", "noise.kmsg", "hostile.kmsg"])
def test_every_record_is_classified_as_expected(file: str) -> None:
    wanted = [{key: value for key, value in row.items() if key != "note"} for row in expectations()[file]]
    found = [as_expected(number, line, event, file) for number, line, event in classified(DATA / file)]

    differing = [(row, seen) for row, seen in zip(wanted, found, strict=True) if row != seen]
    assert differing == []


def test_no_hostile_record_of_another_facility_is_more_than_spoofed() -> None:
    kinds = {line.kind for _, line, _ in classified(DATA / "hostile.kmsg") if line.would_be is not None}

    assert kinds == {LineKind.SPOOFED}


VALID_AMONG_HOSTILE = {
    29: "Xid149",
    30: "RecoveryResetGpu",
    65: "Xid65535",
    66: "Xid79",
    79: "Xid149",
    80: "Xid149",
}
"""Lines of the hostile file that the kernel did write and that do report a fault, oddly as they are dressed."""


def named_gpus(path: Path) -> list[Gpu]:
    """A GPU for every PCI bus id that stands anywhere in the file, in whatever spelling."""
    found = re.findall(rb"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})", path.read_bytes())
    buses = {
        b":".join((domain.lstrip(b"0").rjust(4, b"0"), *rest)).decode().lower() for domain, *rest in found
    }
    return [replace(GPU, uuid=GpuUuid(f"GPU-{bus}"), bus_id=PciBusId(f"{bus}.0")) for bus in sorted(buses)]


def hurt(line: Line, gpus: list[Gpu]) -> dict[PciBusId, str]:
    """Whom the line, heard while all are well, makes other than well, and the reason it is published under."""
    signal = kernel_signal(line, moment(1001), 1)
    if not isinstance(signal, get_args(GpuSignal)):
        return {}
    well, found = judge(fold(good(1000)), 1001), {}
    for gpu in gpus:
        state = fold(good(1000), *([signal] if affects(signal, gpu) else []))  # type: ignore[arg-type,list-item]  # narrowed above
        if judge(state, 1001) != well:
            found[gpu.bus_id] = str(judge(state, 1001).reason)
    return found


def test_no_hostile_line_hurts_a_gpu_but_those_that_are_the_kernels_own_and_name_it() -> None:
    path = DATA / "hostile.kmsg"
    gpus, victims = named_gpus(path), {}
    for number, line, _ in classified(path):
        hit = hurt(line, gpus)
        if hit:
            victims[number] = hit
            assert hit.keys() == {line.bus_id}

    assert len(gpus) > 1
    assert {number: next(iter(hit.values())) for number, hit in victims.items()} == VALID_AMONG_HOSTILE


def test_no_line_of_an_ordinary_boot_hurts_a_gpu() -> None:
    path = DATA / "noise.kmsg"

    assert [
        hurt(line, named_gpus(path)) for _, line, _ in classified(path) if hurt(line, named_gpus(path))
    ] == []


def test_every_fault_among_the_good_lines_hurts_the_gpu_it_names_and_no_other() -> None:
    path = DATA / "good-xid.kmsg"
    gpus, hits = named_gpus(path), 0
    for _, line, _ in classified(path):
        hit = hurt(line, gpus)
        hits += bool(hit)
        assert hit.keys() <= {line.bus_id}

    assert hits > 20
