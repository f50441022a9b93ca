"""`gpuvitals explain --line`: walks one kernel line through every station and says what each made of it.

It is the documentation of the walk and the first thing to paste into a bug report.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.policy_option import add_policy_option, chosen_policy
from gpuvitals.health.evaluate import evaluate
from gpuvitals.health.fault_classes import FaultClass, xid_rule
from gpuvitals.health.isolation import isolated
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import initial_state
from gpuvitals.health.verdict import verdict
from gpuvitals.inventory.claims import healthy_status
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.taints import taints
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import (
    FabricState,
    LinkState,
    OffBusReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Signal,
    Source,
    XidReport,
)
from gpuvitals.model.snapshot import GpuHealth
from gpuvitals.signals.kernel_signals import kernel_signal
from gpuvitals.signals.kmsg_record import KmsgRecord, kmsg_record
from gpuvitals.signals.xid_line import Line, LineKind, XidClassifier

_NOW = Moment(at=1000.0, time=datetime(2026, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Station:
    """One stop of the walk and what it made of the line."""

    name: str
    text: str


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("explain", help="say what gpuvitals makes of a kernel line, and why")
    parser.add_argument(
        "--line",
        required=True,
        help="a kernel line as dmesg prints it (NVRM: Xid ...) or as /dev/kmsg does (4,123,456,-;NVRM: ...)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_policy_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the walk; 0, since any line has an explanation."""
    if not options.line.strip():
        raise UsageError("--line: is empty; expected a kernel line")
    stations = list(walk(options.line, chosen_policy(options.policy)))
    if options.json:
        print(json.dumps([{"station": station.name, "text": station.text} for station in stations], indent=2))
        return 0
    width = max(len(station.name) for station in stations)
    for number, station in enumerate(stations, start=1):
        print(f"{number:2} {station.name:<{width}}  {station.text}")
    return 0


def walk(text: str, policy: Policy) -> Iterator[Station]:
    """The stations of one line on a GPU that was healthy until then."""
    record = _record(text)
    if record is None:
        yield Station(
            "record", "malformed: not a record of the kernel; counted, logged escaped, no effect on any GPU"
        )
        return
    yield Station("record", f"facility {record.facility}, sequence {record.sequence}")
    line = XidClassifier().classify(record)
    yield Station("line", _line(line))
    signal = kernel_signal(line, _NOW, record.sequence)
    if signal is None:
        yield Station("signal", "none: it says nothing about a GPU's health")
        return
    yield Station("signal", f"{type(signal).__name__} from {signal.source.value}")
    yield from _judged(signal, line, policy)


def _judged(signal: Signal, line: Line, policy: Policy) -> Iterator[Station]:
    gpu = _gpu(line)
    if isinstance(signal, XidReport):
        rule = xid_rule(signal)
        yield Station("rule", f"{rule.reason}: {rule.meaning}; class {_class(rule.fault_class)}")
        yield Station("way out", f"{rule.clearing.value}")
    elif isinstance(signal, RecoveryActionReport):
        yield Station(
            "rule", "the recovery action is read from NVML, which decides; the line only has it read at once"
        )
    elif not isinstance(signal, OffBusReport):
        yield Station("rule", "a fact of the node or of a GPU's identity; no GPU is judged by it alone")
        return
    state = evaluate(initial_state(gpu, _NOW), _healthy(gpu), policy)
    if isinstance(signal, XidReport | OffBusReport | RecoveryActionReport):
        state = evaluate(state, signal, policy)
    judged = verdict(state, _NOW, policy)
    yield Station(
        "verdict", f"{judged.state.value}, score {judged.score}, {judged.message or 'nothing is wrong'}"
    )
    yield from _shown(gpu, judged, policy)


def _shown(gpu: Gpu, judged: Verdict, policy: Policy) -> Iterator[Station]:
    out = bool(isolated([judged], policy))
    entry = GpuHealth(gpu=gpu, verdict=judged, isolated=out, state_since=_NOW.time)
    marks = [f"{taint.key}={taint.value}:{taint.effect.value}" for taint in taints(entry, Naming())]
    yield Station("device", "taint " + marks[0] if marks else "no taint")
    yield Station("scheduling", "no new claim gets it" if out else "stays allocatable")
    yield Station(
        "careful claims", "score > 90 matches" if judged.score > 90 else "score > 90 does not match"
    )
    yield Station("claim", f"Healthy={healthy_status(judged.state).value}, reason {judged.reason}")


def _record(text: str) -> KmsgRecord | None:
    raw = text.rstrip("\n").encode(errors="replace")
    if text.startswith(("NVRM:", "nvidia-nvswitch")):
        raw = b"4,1,1000000,-;" + raw
    return kmsg_record(raw)


def _line(line: Line) -> str:
    match line.kind:
        case LineKind.SPOOFED:
            would = line.would_be.value if line.would_be is not None else "none"
            return f"spoofed: would be {would}, but the kernel did not write it; counted, no effect"
        case LineKind.MALFORMED:
            return "malformed: it begins like the driver's but its header is not whole; counted, everything is polled"
        case LineKind.NONE:
            return "not about a GPU"
        case LineKind.XID | LineKind.SXID | LineKind.OFF_BUS | LineKind.RECOVERY_ACTION | LineKind.IDENTITY:
            parts = [line.kind.value]
            parts += [f"code {line.code}"] if line.code is not None else []
            parts += (
                [f"on {line.bus_id}"] if line.bus_id is not None else ["names no GPU: every GPU is probed"]
            )
            parts += [f"process {line.process!r} (display only)"] if line.process is not None else []
            return ", ".join(parts)


def _class(fault_class: FaultClass) -> str:
    match fault_class:
        case FaultClass.A:
            return "A: definitive, isolates at once"
        case FaultClass.B:
            return "B: isolates after its dwell or a second episode"
        case FaultClass.B0:
            return "B0: degrades, never isolates alone"
        case FaultClass.C:
            return "C: an application's; counts when a second claim meets it"
        case FaultClass.NONE:
            return "none: recorded only"


def _gpu(line: Line) -> Gpu:
    return Gpu(
        uuid=GpuUuid("GPU-of-this-line"),
        bus_id=line.bus_id or PciBusId("0000:00:00.0"),
        product_name="example",
        memory_bytes=0,
        expected_links=18,
    )


def _healthy(gpu: Gpu) -> Reading:
    return Reading(
        source=Source.NVML_POLL,
        seen=_NOW,
        uuid=gpu.uuid,
        status=ReadStatus.OK,
        recovery_action=0,
        ecc_uncorrected_volatile=0,
        ecc_uncorrected_aggregate=0,
        sram_threshold_exceeded=False,
        remap_pending=False,
        remap_failed=False,
        links=(LinkState.ACTIVE,) * 18,
        fabric=FabricState.COMPLETED,
        thermal_margin_celsius=30,
        hardware_slowdown=False,
    )
