"""`gpuvitals explain`: every station of the walk, for a kernel line or for a GPU of the agent on this node.

It is the documentation of the walk and the first thing to paste into a bug report.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

import msgspec

from gpuvitals.bootstrap import DEFAULT_STATE_DIRECTORY
from gpuvitals.cli.connection import add_connection_options, connection
from gpuvitals.cli.errors import INCOMPLETE, UsageError
from gpuvitals.cli.policy_option import add_policy_option, chosen_policy
from gpuvitals.cli.remote_explain import remote_stations
from gpuvitals.health.advice import xid_advice
from gpuvitals.health.evaluate import evaluate
from gpuvitals.health.fault_classes import PEER_ADVICE, FaultClass, xid_rule
from gpuvitals.health.isolation import isolated
from gpuvitals.health.policy import Policy
from gpuvitals.health.reasons import operator_advice
from gpuvitals.health.state import Fault, GpuState, initial_state
from gpuvitals.health.verdict import verdict
from gpuvitals.health.witnesses import WITNESSES, fault_kind, witnesses
from gpuvitals.health.xid74 import xid74_meaning
from gpuvitals.health.xid_nvlink5 import nvlink5_action, points_at_peer
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.agent_pods import SELECTOR
from gpuvitals.kube.errors import ApiError
from gpuvitals.kubeletplugin import debug_socket
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


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "explain", help="explain the verdict on a GPU or on a kernel line, step by step"
    )
    parser.add_argument(
        "--line",
        help="a kernel line in any form that gpuvitals replay reads, as 4,123,456,-;NVRM: ... of /dev/kmsg",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="[NODE] GPU",
        help="device name, UUID or PCI bus id of a GPU: of this node's agent, or of the agent of NODE",
    )
    add_connection_options(parser)
    parser.add_argument(
        "--selector", default=SELECTOR, help=f"labels of the agents' pods, with NODE (default: {SELECTOR})"
    )
    parser.add_argument(
        "--agent", type=Path, default=DEFAULT_STATE_DIRECTORY, help="the agent's --state-dir, with GPU"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_policy_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the walk. 0; 1 where the agent can't be asked; 3 where the line can't be read."""
    if (options.line is None) is (not options.names) or len(options.names) > 2:
        raise UsageError(
            "explain: give either a GPU of this node's agent, NODE and GPU, or --line with a kernel line"
        )
    if options.line is not None:
        if not options.line.strip():
            raise UsageError("--line: is empty; expected a kernel line")
        stations, is_read = walk(options.line, chosen_policy(options.policy))
    else:
        if options.policy:
            raise UsageError("--policy: goes with --line; a live GPU is judged by its agent's policy")
        is_read = True
        try:
            stations = _of_gpu(options)
        except debug_socket.RefusedQuestionError as error:
            raise UsageError(f"explain: {error}") from error
        except (debug_socket.DebugError, ApiError) as error:
            print(f"gpuvitals: {error}", file=sys.stderr)
            return 1
    print(_json(stations) if options.json else _text(stations))
    return 0 if is_read else INCOMPLETE


def _of_gpu(options: argparse.Namespace) -> list[Station]:
    """Raises DebugError, ApiError and UsageError."""
    *node, gpu = options.names
    if not node:
        return asked(options.agent, gpu)
    return remote_stations(connection(options), node[0], gpu, options.selector)


def asked(state_directory: Path, gpu: str) -> list[Station]:
    """The agent's own explanation of one of its GPUs. Raises DebugError."""
    answer = debug_socket.ask(state_directory / debug_socket.FILE, {"ask": "gpu", "gpu": gpu})
    return [Station(each["station"], each["text"]) for each in msgspec.convert(answer, list[dict[str, str]])]


def _json(stations: list[Station]) -> str:
    return json.dumps([{"station": station.name, "text": station.text} for station in stations], indent=2)


def _text(stations: list[Station]) -> str:
    width = max(len(station.name) for station in stations)
    return "\n".join(
        f"{number:2} {station.name:<{width}}  {station.text}"
        for number, station in enumerate(stations, start=1)
    )


def walk(text: str, policy: Policy) -> tuple[list[Station], bool]:
    """The stations of one line on a GPU that was healthy until then, and whether the line could be read."""
    found = single_line(os.fsencode(text.rstrip("\n")), datetime.now(UTC))
    if isinstance(found, OtherLine) and (found.is_named or not DRIVER_MARKER.search(os.fsencode(text))):
        return [Station("record", "another program's: only what the kernel wrote counts")], True
    if isinstance(found, MalformedLine):
        why = "malformed: its header is damaged, or it is too long; counted, no effect on any GPU"
        return [Station("record", why)], False
    if found is None or isinstance(found, OtherLine):
        why = "not read: it has no form in which kernel lines are kept (docs/guides/replay.md lists them)"
        return [Station("record", why)], False
    inside = found.record.text
    if contains_fault_header(inside) and not is_program_line(inside.encode("ascii", errors="replace")):
        return [
            Station("record", "not read: a driver's line is inside of it, behind text that no known form has")
        ], False
    line = XidClassifier().classify(found.record)
    return list(_walked(found, line, policy)), line.is_understood


def _walked(found: LogLine, line: Line, policy: Policy) -> Iterator[Station]:
    record = found.record
    numbered = "" if found.sequence is None else f", sequence {found.sequence}"
    signed = (
        "" if found.is_signed else "; the form does not tell who wrote the line: taken to be the kernel's"
    )
    yield Station("record", f"facility {record.facility}{numbered}{signed}")
    yield Station("line", _line(line))
    hint = advisory_of(record, _NOW)
    if hint is not None:
        yield Station("hint", advisory_text(hint))
    signal = kernel_signal(line, _NOW, record.sequence)
    if signal is None:
        yield Station("signal", "none: it says nothing about a GPU's health")
        return
    yield Station("signal", f"{type(signal).__name__} from {signal.source.value}")
    if not isinstance(signal, XidReport | OffBusReport | InitFailureReport | RecoveryActionReport):
        yield Station("rule", "a fact of the node or of a GPU's identity; no GPU is judged by it alone")
        return
    yield Station("gpu", _whom(line))
    yield from _judged(signal, _gpu(line), policy)


def _judged(
    signal: XidReport | OffBusReport | InitFailureReport | RecoveryActionReport, gpu: Gpu, policy: Policy
) -> Iterator[Station]:
    if isinstance(signal, XidReport):
        yield from _decoded(signal)
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
            "the driver asks for nothing any more; a reading of NVML's field ends what it asked for, and this line does where "
            "the field can't be read",
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


def _decoded(signal: XidReport) -> Iterator[Station]:
    """What the status words say, for the XIDs whose number decides nothing."""
    if signal.code == 74:
        yield Station("decode", f"the seven words say {xid74_meaning(signal.words).value}")
    elif signal.nvlink5 is not None:
        detail = signal.nvlink5
        action = nvlink5_action(signal.code, detail.unit, detail.intr_info, detail.error_status)
        word = "Fatal" if signal.fatal else "Nonfatal"
        said = "nothing: it printed no words" if action is None else action.value
        yield Station("decode", f"{detail.unit} {word}; NVIDIA's sheet says {said}")
        if points_at_peer(signal.code, detail.unit, detail.intr_info):
            yield Station("peer", PEER_ADVICE)


def _witnesses(state: GpuState, fault: Fault) -> str:
    told = witnesses(state, fault)
    others = WITNESSES[fault_kind(fault.rule.reason)] - told
    also = ", ".join(sorted(witness.value for witness in others))
    return f"{', '.join(sorted(witness.value for witness in told))}; would count as a second one: {also or 'none'}"


def _whom(line: Line) -> str:
    if line.bus_id is None:
        return "not named: no GPU is blamed, every GPU is probed; shown as if it were one"
    instance = "" if line.gpu_instance is None else f", GPU instance {line.gpu_instance} alone"
    return f"the one at {line.bus_id}{instance}; where the node has none there, the fault is an event on the Node and no GPU is blamed"


def _line(line: Line) -> str:
    match line.kind:
        case LineKind.SPOOFED:
            would = line.would_be.value if line.would_be is not None else "none"
            return f"spoofed: would be {would}, but the kernel did not write it; counted, no effect"
        case LineKind.MALFORMED:
            return "malformed: it begins like the driver's but its header is not whole; counted, everything is polled"
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
            return "nothing to be sure of"
        case Confidence.SINGLE:
            return "one witness: enough for this device, not for anything disruptive"
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
