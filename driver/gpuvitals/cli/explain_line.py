"""Explains one kernel line: the stations of a healthy GPU that gets it, from the record to the published device."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import assert_never

from gpuvitals.health.advice import xid_advice
from gpuvitals.health.evaluate import evaluate
from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.isolation import isolated
from gpuvitals.health.policy import Policy
from gpuvitals.health.reasons import operator_advice
from gpuvitals.health.state import Fault, GpuState, initial_state
from gpuvitals.health.verdict import verdict
from gpuvitals.health.witnesses import WITNESSES, fault_kind, witnesses
from gpuvitals.health.xid74 import xid74_meaning
from gpuvitals.health.xid_nvlink5 import nvlink5_action, points_at_peer
from gpuvitals.health.xid_rules import PEER_ADVICE, xid_rule
from gpuvitals.inventory.naming import Naming
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import NO_REASON, Confidence, HealthState
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import (
    FabricState,
    InitFailureReport,
    LinkState,
    OffBusReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Source,
    XidReport,
)
from gpuvitals.model.snapshot import GpuHealth
from gpuvitals.node.explain import Station, device_stations, rule_stations
from gpuvitals.replay.advisories import advisory_of, advisory_text
from gpuvitals.replay.driver_markers import DRIVER_MARKER, contains_fault_header, is_program_line
from gpuvitals.replay.log_line import LogLine, MalformedLine, OtherLine
from gpuvitals.replay.single_line import single_line
from gpuvitals.signals.kmsg.decode import kernel_signal
from gpuvitals.signals.kmsg.xid_line import Line, LineKind, XidClassifier

_BEFORE = Moment(at=999.0, time=datetime(2026, 1, 1, tzinfo=UTC))
_NOW = Moment(at=1000.0, time=datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC))


def line_stations(text: str, policy: Policy) -> tuple[list[Station], bool]:
    """The stations of one line for a GPU that was healthy before, and whether the line could be read."""
    found = single_line(os.fsencode(text.rstrip("\n")), datetime.now(UTC))
    if isinstance(found, OtherLine) and (found.is_named or not DRIVER_MARKER.search(os.fsencode(text))):
        return [Station("record", "written by another program: only lines of the kernel count")], True
    if isinstance(found, MalformedLine):
        why = "malformed: its header is damaged, or it is too long; counted, no effect on any GPU"
        return [Station("record", why)], False
    if found is None or isinstance(found, OtherLine):
        why = "not read: it is in none of the known forms of kernel lines (docs/guides/replay.md lists them)"
        return [Station("record", why)], False
    inside = found.record.text
    if contains_fault_header(inside) and not is_program_line(inside.encode("ascii", errors="replace")):
        return [
            Station("record", "not read: it contains a driver's line behind text of an unknown form")
        ], False
    line = XidClassifier().classify(found.record)
    return list(_record_stations(found, line, policy)), line.is_understood


def _record_stations(found: LogLine, line: Line, policy: Policy) -> Iterator[Station]:
    record = found.record
    numbered = "" if found.sequence is None else f", sequence {found.sequence}"
    signed = "" if found.is_signed else "; the form does not identify the writer: taken to be the kernel's"
    yield Station("record", f"facility {record.facility}{numbered}{signed}")
    yield Station("line", _line(line))
    hint = advisory_of(record, _NOW)
    if hint is not None:
        yield Station("hint", advisory_text(hint))
    signal = kernel_signal(line, _NOW, record.sequence)
    if signal is None:
        yield Station("signal", "none: the line is no evidence about the health of a GPU")
        return
    yield Station("signal", f"{type(signal).__name__} from {signal.source.value}")
    if not isinstance(signal, XidReport | OffBusReport | InitFailureReport | RecoveryActionReport):
        yield Station("rule", "a fact of the node or of a GPU's identity; it changes no verdict by itself")
        return
    yield Station("gpu", _gpu_text(line))
    yield from _verdict_stations(signal, _gpu(line), policy)


def _verdict_stations(
    signal: XidReport | OffBusReport | InitFailureReport | RecoveryActionReport, gpu: Gpu, policy: Policy
) -> Iterator[Station]:
    if isinstance(signal, XidReport):
        yield from _status_words(signal)
    state = evaluate(initial_state(gpu, _BEFORE), _healthy(gpu), policy)
    state = evaluate(state, signal, policy)
    fault = next(iter(state.faults), None)
    if fault is not None:
        yield from rule_stations(fault.rule)
        yield Station("witnesses", _witnesses(state, fault))
    elif isinstance(signal, XidReport):
        yield from rule_stations(xid_rule(signal))
    else:
        yield Station(
            "rule",
            "the driver withdraws its recovery action; a reading of NVML's field ends it, and this line does if the field "
            "cannot be read",
        )
    judged = verdict(state, _NOW, policy)
    if fault is not None and fault.rule.fault_class is FaultClass.B and judged.state is HealthState.DEGRADED:
        yield Station(
            "dwell", f"reported again within {policy.dwell_seconds} s and not repaired, it takes the GPU out"
        )
    yield Station("confidence", _confidence(judged.confidence))
    yield Station(
        "verdict", f"{judged.state.value}, score {judged.score}, {judged.message or 'nothing is wrong'}"
    )
    if judged.reason != NO_REASON:
        yield Station("advice", operator_advice(judged.reason, None if fault is None else fault.rule))
    elif isinstance(signal, XidReport):
        yield Station("advice", xid_advice(signal.code, xid_rule(signal)))
    out = bool(isolated([judged], policy))
    shown = GpuHealth(gpu=gpu, verdict=judged, isolated=out, state_since=_NOW.time)
    yield from device_stations(shown, Naming())


def _status_words(signal: XidReport) -> Iterator[Station]:
    """The meaning of the status words, for the XIDs whose number alone decides nothing."""
    if signal.code == 74:
        yield Station("decode", f"the seven words mean {xid74_meaning(signal.words).value}")
    elif signal.nvlink5 is not None:
        detail = signal.nvlink5
        action = nvlink5_action(signal.code, detail.unit, detail.intr_info, detail.error_status)
        word = "Fatal" if signal.fatal else "Nonfatal"
        meaning = "nothing: the driver printed no words" if action is None else action.value
        yield Station("decode", f"{detail.unit} {word}; action in NVIDIA's sheet: {meaning}")
        if points_at_peer(signal.code, detail.unit, detail.intr_info):
            yield Station("peer", PEER_ADVICE)


def _witnesses(state: GpuState, fault: Fault) -> str:
    found = witnesses(state, fault)
    others = WITNESSES[fault_kind(fault.rule.reason)] - found
    also = ", ".join(sorted(witness.value for witness in others))
    return f"{', '.join(sorted(witness.value for witness in found))}; would count as a second one: {also or 'none'}"


def _gpu_text(line: Line) -> str:
    if line.bus_id is None:
        return "not named: every GPU is probed, and no verdict changes; shown here for one GPU"
    instance = "" if line.gpu_instance is None else f", GPU instance {line.gpu_instance} alone"
    return f"the one at {line.bus_id}{instance}; without a GPU there, the fault is an event on the Node and changes no verdict"


def _line(line: Line) -> str:
    match line.kind:
        case LineKind.SPOOFED:
            would = line.would_be.value if line.would_be is not None else "none"
            return f"spoofed: would be {would}, but the kernel did not write it; counted, no effect"
        case LineKind.MALFORMED:
            return "malformed: it begins like a driver's line, but its header is incomplete; counted, every GPU is polled"
        case LineKind.NONE:
            return "not about a GPU"
        case (
            LineKind.XID
            | LineKind.SXID
            | LineKind.OFF_BUS
            | LineKind.INIT_FAILED
            | LineKind.RECOVERY_ACTION
            | LineKind.IDENTITY
        ):
            parts = [line.kind.value]
            parts += [f"code {line.code}"] if line.code is not None else []
            parts += (
                [f"on {line.bus_id}"] if line.bus_id is not None else ["names no GPU: every GPU is probed"]
            )
            parts += [f"caused by XID {line.caused_by}"] if line.caused_by is not None else []
            parts += [f"process {line.process!r} (display only)"] if line.process is not None else []
            return ", ".join(parts)


def _confidence(found: Confidence) -> str:
    match found:
        case Confidence.NONE:
            return "no fault to confirm"
        case Confidence.SINGLE:
            return "one witness: enough for this device, not for a disruptive action"
        case Confidence.CORROBORATED:
            return "two independent witnesses"
        case Confidence.DRIVER:
            return "the driver's own recovery action"
        case _:
            assert_never(found)


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
        seen=_BEFORE,
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
