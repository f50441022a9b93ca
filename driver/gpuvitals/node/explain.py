"""Explains one GPU: the content of each stage of the main path. Pure; printed by `gpuvitals explain`.

A station is a name and a text for a person. The texts may change; programs should read the attributes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpuvitals.health.bursts import bursts
from gpuvitals.health.fault_classes import CauseRule, Clearing, FaultClass
from gpuvitals.health.faults import NVML_HUNG, isolates, run_ends_at
from gpuvitals.health.reasons import OTHER_DRIVER, operator_advice
from gpuvitals.health.score import HEAT, VERSION, factors, score
from gpuvitals.health.state import Fault, GpuState
from gpuvitals.health.verdict import next_change_at, verdict
from gpuvitals.health.witnesses import may_disrupt, witnesses
from gpuvitals.inventory.claims import ClaimRef, healthy_status
from gpuvitals.inventory.device import device_name, is_offered
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.inventory.taints import taints
from gpuvitals.kubeletplugin.device_health import kubelet_health
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu_name import normalize_gpu_name
from gpuvitals.model.health import NO_REASON, Confidence, Phase, Verdict
from gpuvitals.model.snapshot import GpuHealth, NodeFacts
from gpuvitals.node.explain_text import (
    ago,
    checkup_text,
    class_text,
    past_text,
    reading_values,
    way_out_text,
    xid_text,
)
from gpuvitals.node.mig_instances import visible_verdict
from gpuvitals.node.state_store import GpuRecord

_CAREFUL = 90


@dataclass(frozen=True, slots=True)
class Station:
    """One line of an explanation: the content or the result of one stage."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainContext:
    """The inputs of an explanation apart from the GPU's own record."""

    now: Moment
    policy: EffectivePolicy
    naming: Naming
    facts: NodeFacts
    holders: tuple[ClaimRef, ...]
    conflict: str = ""
    unprepared: Verdict | None = None


def find_gpu(entries: Iterable[GpuRecord], name: str) -> GpuRecord:
    """The GPU with that device name, UUID or PCI bus id. Raises ValueError that lists the node's GPUs."""
    known = sorted(entries, key=lambda entry: bool(entry.retired))
    for entry in known:
        own = (device_name(entry.gpu), entry.gpu.uuid, entry.gpu.bus_id)
        if normalize_gpu_name(name) in map(normalize_gpu_name, own):
            return entry
    names = ", ".join(sorted(device_name(entry.gpu) for entry in known)) or "none"
    raise ValueError(f"{name!r}: this node has no such GPU; it has {names}")


def gpu_stations(entry: GpuRecord, context: ExplainContext) -> Iterator[Station]:
    """The stations of a live GPU, from its identity and sources to the claims that hold it."""
    gpu = entry.gpu
    yield Station("gpu", f"{gpu.uuid} at {gpu.bus_id}, {gpu.product_name}")
    monitors = [f"{source.value} {seen.value}" for source, seen in context.facts.monitors]
    yield Station("sources", ", ".join(monitors) or "none has reported")
    yield from _state_stations(entry.state, context)
    current = visible_verdict(entry, verdict(entry.state, context.now, context.policy.health))
    yield from _verdict_stations(entry.state, current, context)
    yield from _published_stations(entry, current, context)
    holders = [f"{claim.namespace}/{claim.name}" for claim in context.holders]
    yield Station("holders", ", ".join(holders) or "no claim is prepared with it")
    yield Station("next", _next(entry.state, context))


def rule_stations(rule: CauseRule) -> Iterator[Station]:
    """The rule of a cause, and the ways in which a fault with this cause ends."""
    yield Station("rule", f"{rule.reason}: {rule.meaning}; class {class_text(rule.fault_class)}")
    yield Station("way out", way_out_text(rule.clearing))


def device_stations(shown: GpuHealth, naming: Naming) -> Iterator[Station]:
    """The published state: device, service, careful claims, claim status, the kubelet."""
    if not is_offered(shown.gpu):
        yield Station("device", "none: the GPU is in MIG mode, and its instances are the devices")
        return
    marks = [f"{taint.key}={taint.value}:{taint.effect.value}" for taint in taints(shown, naming)]
    state = shown.verdict.state
    yield Station("device", f"{device_name(shown.gpu)}, " + (f"taint {marks[0]}" if marks else "no taint"))
    if shown.unprepared is not None:
        yield Station("driver files", f"no claim can be prepared: {shown.unprepared.message}")
    yield Station("service", _service(shown))
    matches = "matches" if shown.shown.score > _CAREFUL else "does not match"
    yield Station("careful claims", f"score > {_CAREFUL} {matches}")
    yield Station("claim", f"Healthy={healthy_status(state).value}, reason {shown.verdict.reason}")
    yield Station("kubelet", f"{kubelet_health(state).name}, in the status of each pod that holds it")


def _state_stations(state: GpuState, context: ExplainContext) -> Iterator[Station]:
    yield Station("reading", _reading(state, context))
    yield from _hang(state, context)
    if state.checkup is not None:
        yield Station("checkup", checkup_text(state.checkup, context.now.at))
    yield from _faults(state, context.now.at)
    yield from _dwell(state, context)
    for record in state.xids:
        yield Station("xid", xid_text(record, context.now.at))
    yield from _burst(state, context)
    for past in reversed(state.past):
        yield Station("past", past_text(past, context.now.at))


def _verdict_stations(state: GpuState, current: Verdict, context: ExplainContext) -> Iterator[Station]:
    yield Station("verdict", _verdict(current))
    if current.reason != NO_REASON:
        cause = state.fault(current.reason)
        yield Station("advice", operator_advice(current.reason, None if cause is None else cause.rule))
    yield Station("score", _score(state, current, context))
    yield Station("policy", _policy(context.policy))


def _published_stations(entry: GpuRecord, current: Verdict, context: ExplainContext) -> Iterator[Station]:
    shown = GpuHealth(
        gpu=entry.gpu,
        verdict=entry.published or current,
        isolated=entry.isolated,
        state_since=entry.state_since,
        spared=entry.spared,
        unprepared=context.unprepared,
    )
    if entry.published is not None and entry.published != current:
        yield Station(
            "published",
            f"still the previous verdict, since the change is not worth a write: {_verdict(entry.published)}",
        )
    if entry.retired:
        yield Station(
            "device", "none: another GPU is in its slot; the health of this one stays in the agent's memory"
        )
    else:
        yield from device_stations(shown, context.naming)
    if context.conflict:
        yield Station(
            "withheld", f"{OTHER_DRIVER}, so no device of this node is published: {context.conflict}"
        )


def _score(state: GpuState, current: Verdict, context: ExplainContext) -> str:
    """The score's formula with its inputs and result, and the limit that the state puts on it."""
    inputs = factors(state, context.now.at, context.policy.health)
    shown = [
        f"{name} {float(value):.3g}"
        for name, value in (
            ("x", inputs.xid),
            ("n", inputs.links),
            ("e", inputs.memory),
            ("t", HEAT[inputs.heat_step]),
        )
    ]
    found = score(inputs)
    capped = f", {current.score} while {current.state.value}" if current.score != found else ""
    return f"version {VERSION}: 100(1-0.4x)(0.7+0.3n)(1-0.2e)t with {', '.join(shown)} is {found}{capped}"


def _policy(policy: EffectivePolicy) -> str:
    name = policy.rule or "none; the agent's own file applies"
    paused = ", paused: no device enters or leaves service" if policy.paused else ""
    tied = f"; ambiguous with {', '.join(policy.tied)}" if policy.tied else ""
    return f"{name}, mode {policy.mode.value}{paused}{tied}"


def _service(shown: GpuHealth) -> str:
    if shown.isolated:
        return "out: no new claim gets it"
    if shown.spared:
        return f"in, though it should be out: {shown.spared}"
    return "in: it can be allocated"


def _faults(state: GpuState, now: float) -> Iterator[Station]:
    if not state.faults:
        yield Station("faults", "none is open")
    for fault in state.faults:
        yield Station("fault", _fault(state, fault, now))
        yield from rule_stations(fault.rule)


def _dwell(state: GpuState, context: ExplainContext) -> Iterator[Station]:
    """The remaining time until a suspicion isolates, and the number of recurrences that isolate at once."""
    policy, now = context.policy.health, context.now.at
    suspects = [
        fault
        for fault in state.faults
        if fault.rule.fault_class is FaultClass.B and not isolates(state, fault, now, policy)
    ]
    for fault in suspects:
        again = (
            f"{policy.dwell_episodes} episodes within {policy.dwell_seconds} s or {policy.repeat_reports} reports within "
            f"{policy.xid_count_seconds // 3600} h take it out of service"
        )
        ends, unless = run_ends_at(fault, policy), "if it is not repaired"
        if fault.rule.clearing is Clearing.LEVEL and state.suspect_since is not None:
            ends, unless = state.suspect_since + policy.dwell_seconds, "if it lasts"
        if ends is not None:
            again = f"out of service in {max(0.0, ends - now):.0f} s {unless}; {again} too"
        yield Station("dwell", f"{fault.rule.reason}: {again}")


def _burst(state: GpuState, context: ExplainContext) -> Iterator[Station]:
    newest = next(reversed(bursts((state,), context.policy.health)), None)
    if newest is None or len(newest.xids) < 2:
        return
    codes = ", ".join(str(code) for code in sorted({each.record.code for each in newest.xids}))
    how = "according to the driver" if newest.is_named else "the first of the most severe"
    yield Station("burst", f"XID {codes} are one incident; its root is XID {newest.root.record.code}, {how}")


def _fault(state: GpuState, fault: Fault, now: float) -> str:
    seen_by = ", ".join(sorted(witness.value for witness in witnesses(state, fault)))
    count = len(fault.episodes)
    parts = [
        f"{fault.rule.reason}, first {ago(now, fault.first_at)}, last {ago(now, fault.last_at)}",
        f"{count} episode" + ("s" if count != 1 else ""),
        f"witnesses: {seen_by}",
    ]
    if fault.good_since is not None:
        parts.append(f"reads good since {ago(now, fault.good_since)}")
    return "; ".join(parts)


def _hang(state: GpuState, context: ExplainContext) -> Iterator[Station]:
    """The three times of a hung GPU: found, Unknown, out of service."""
    hung, policy, now = state.fault(NVML_HUNG), context.policy.health, context.now.at
    if hung is None or hung.good_since is not None or state.suspect_since is None:
        return
    blind_at = state.started_at if state.last_ok_at is None else state.last_ok_at + policy.blind_seconds
    unknown = _when(now, blind_at, "Unknown")
    out = _when(now, state.suspect_since + policy.dwell_seconds, "out of service")
    yield Station("hang", f"found {ago(now, hung.first_at)}, not polled since; {unknown}; {out}")


def _when(now: float, at: float, state: str) -> str:
    return f"{state} in {at - now:.0f} s" if at > now else f"{state} since {now - at:.0f} s"


def _reading(state: GpuState, context: ExplainContext) -> str:
    reading, hung, now = state.reading, state.fault(NVML_HUNG), context.now.at
    good = "never" if state.last_ok_at is None else ago(now, state.last_ok_at)
    if hung is not None and hung.good_since is None:
        return f"none: an NVML call for this GPU does not return; last good one {good}"
    if reading is None:
        return "never read"
    values = ", ".join(reading_values(reading))
    values = f": {values}" if values else ""
    if now - reading.seen.at >= context.policy.health.blind_seconds:
        # Too old to describe the present state.
        return f"none for {now - reading.seen.at:.0f} s, last good one {good}; it then read{values or ' nothing'}"
    return f"{reading.status.value} {ago(now, reading.seen.at)}, last good one {good}{values}"


def _verdict(shown: Verdict) -> str:
    parts = [f"{shown.state.value}, score {shown.score}"]
    if shown.phase is not Phase.STEADY:
        parts.append(shown.phase.value)
    if shown.confidence is not Confidence.NONE:
        enough = "enough for a repair" if may_disrupt(shown.confidence) else "a repair needs approval"
        parts.append(f"confidence {shown.confidence.value}, {enough}")
    parts.append(f"{shown.coverage} % of the signals read")
    return f"{', '.join(parts)}; {shown.message or 'nothing is wrong'}"


def _next(state: GpuState, context: ExplainContext) -> str:
    at = next_change_at(state, context.now.at, context.policy.health)
    if at is None:
        return "nothing changes without a signal"
    return f"re-evaluated in {at - context.now.at:.0f} s unless a signal arrives first"
