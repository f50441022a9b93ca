"""Explains: what each station of the walk holds of one GPU. Pure; `gpuvitals explain` and the debug socket print it.

A station is a name and a text for a person. The texts are for reading and may change; programs read the attributes.
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
from gpuvitals.model.gpu_name import folded_name
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
from gpuvitals.node.mig_instances import seen_as
from gpuvitals.node.state_store import GpuRecord

_CAREFUL = 90


@dataclass(frozen=True, slots=True)
class Station:
    """One stop of the walk, and what it holds or made of what came in."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an explanation needs beside the GPU itself."""

    now: Moment
    rule: EffectivePolicy
    naming: Naming
    facts: NodeFacts
    holders: tuple[ClaimRef, ...]
    conflict: str = ""
    unprepared: Verdict | None = None


def find_gpu(entries: Iterable[GpuRecord], name: str) -> GpuRecord:
    """The GPU of that device name, UUID or PCI bus id. Raises ValueError naming those there are."""
    known = sorted(entries, key=lambda entry: bool(entry.retired))
    for entry in known:
        own = (device_name(entry.gpu), entry.gpu.uuid, entry.gpu.bus_id)
        if folded_name(name) in map(folded_name, own):
            return entry
    names = ", ".join(sorted(device_name(entry.gpu) for entry in known)) or "none"
    raise ValueError(f"{name!r}: this node has no such GPU; it has {names}")


def gpu_stations(entry: GpuRecord, around: Surroundings) -> Iterator[Station]:
    """The walk of a live GPU, from its identity and sources to the claims that hold it."""
    gpu, state = entry.gpu, entry.state
    yield Station("gpu", f"{gpu.uuid} at {gpu.bus_id}, {gpu.product_name}")
    monitors = [f"{source.value} {seen.value}" for source, seen in around.facts.monitors]
    yield Station("sources", ", ".join(monitors) or "none has reported")
    yield Station("reading", _reading(state, around))
    yield from _hang(state, around)
    if state.checkup is not None:
        yield Station("checkup", checkup_text(state.checkup, around.now.at))
    yield from _faults(state, around.now.at)
    yield from _dwell(state, around)
    for record in state.xids:
        yield Station("xid", xid_text(record, around.now.at))
    yield from _burst(state, around)
    for past in reversed(state.past):
        yield Station("past", past_text(past, around.now.at))
    judged = verdict(state, around.now, around.rule.health)
    current = seen_as(entry, judged)
    yield Station("verdict", _verdict(current))
    if current.reason != NO_REASON:
        cause = state.fault(current.reason)
        yield Station("advice", operator_advice(current.reason, None if cause is None else cause.rule))
    yield Station("score", _score(state, current, around))
    yield Station("policy", _rule(around.rule))
    shown = GpuHealth(
        gpu=gpu,
        verdict=entry.published or current,
        isolated=entry.isolated,
        state_since=entry.state_since,
        spared=entry.spared,
        unprepared=around.unprepared,
    )
    if entry.published is not None and entry.published != current:
        yield Station(
            "published",
            f"still the one before, as the change is not worth a write: {_verdict(entry.published)}",
        )
    if entry.retired:
        yield Station("device", "none: another GPU is in its slot, and this one's health is remembered")
    else:
        yield from device_stations(shown, around.naming)
    if around.conflict:
        yield Station(
            "withheld", f"{OTHER_DRIVER}, so no device of this node is published: {around.conflict}"
        )
    holders = [f"{claim.namespace}/{claim.name}" for claim in around.holders]
    yield Station("holders", ", ".join(holders) or "no claim is prepared with it")
    yield Station("next", _next(state, around))


def rule_stations(rule: CauseRule) -> Iterator[Station]:
    """The row of the table that decides on a cause, and what makes the cause go away."""
    yield Station("rule", f"{rule.reason}: {rule.meaning}; class {class_text(rule.fault_class)}")
    yield Station("way out", way_out_text(rule.clearing))


def device_stations(shown: GpuHealth, naming: Naming) -> Iterator[Station]:
    """What the cluster sees: device, service, careful claims, claim status, the kubelet."""
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


def _score(state: GpuState, current: Verdict, around: Surroundings) -> str:
    """The formula with its inputs; what it gives, and what the state makes of that."""
    inputs = factors(state, around.now.at, around.rule.health)
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


def _rule(rule: EffectivePolicy) -> str:
    name = rule.rule or "none; the agent's own file holds"
    paused = ", paused: nothing enters or leaves service" if rule.paused else ""
    tied = f"; ambiguous with {', '.join(rule.tied)}" if rule.tied else ""
    return f"{name}, mode {rule.mode.value}{paused}{tied}"


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


def _dwell(state: GpuState, around: Surroundings) -> Iterator[Station]:
    """How long a suspicion still has to last until it isolates, and how often it may come back."""
    policy, now = around.rule.health, around.now.at
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


def _burst(state: GpuState, around: Surroundings) -> Iterator[Station]:
    newest = next(reversed(bursts((state,), around.rule.health)), None)
    if newest is None or len(newest.xids) < 2:
        return
    codes = ", ".join(str(code) for code in sorted({each.record.code for each in newest.xids}))
    how = "as the driver says" if newest.is_named else "the first of the worst"
    yield Station("burst", f"XID {codes} are one; begun by XID {newest.root.record.code}, {how}")


def _fault(state: GpuState, fault: Fault, now: float) -> str:
    told = ", ".join(sorted(witness.value for witness in witnesses(state, fault)))
    count = len(fault.episodes)
    parts = [
        f"{fault.rule.reason}, first {ago(now, fault.first_at)}, last {ago(now, fault.last_at)}",
        f"{count} episode" + ("s" if count != 1 else ""),
        f"witnesses: {told}",
    ]
    if fault.good_since is not None:
        parts.append(f"reads good since {ago(now, fault.good_since)}")
    return "; ".join(parts)


def _hang(state: GpuState, around: Surroundings) -> Iterator[Station]:
    """The three times of a GPU that hangs: when it was found, when it is Unknown, when it leaves service."""
    hung, policy, now = state.fault(NVML_HUNG), around.rule.health, around.now.at
    if hung is None or hung.good_since is not None or state.suspect_since is None:
        return
    blind_at = state.started_at if state.last_ok_at is None else state.last_ok_at + policy.blind_seconds
    unknown = _when(now, blind_at, "Unknown")
    out = _when(now, state.suspect_since + policy.dwell_seconds, "out of service")
    yield Station("hang", f"found {ago(now, hung.first_at)}, not polled since; {unknown}; {out}")


def _when(now: float, at: float, what: str) -> str:
    return f"{what} in {at - now:.0f} s" if at > now else f"{what} since {now - at:.0f} s"


def _reading(state: GpuState, around: Surroundings) -> str:
    reading, hung, now = state.reading, state.fault(NVML_HUNG), around.now.at
    good = "never" if state.last_ok_at is None else ago(now, state.last_ok_at)
    if hung is not None and hung.good_since is None:
        return f"none: an NVML call for this GPU does not return; last good one {good}"
    if reading is None:
        return "never read"
    values = ", ".join(reading_values(reading))
    values = f": {values}" if values else ""
    if now - reading.seen.at >= around.rule.health.blind_seconds:
        # What was read so long ago is no state of now.
        return f"none for {now - reading.seen.at:.0f} s, last good one {good}; it then read{values or ' nothing'}"
    return f"{reading.status.value} {ago(now, reading.seen.at)}, last good one {good}{values}"


def _verdict(judged: Verdict) -> str:
    parts = [f"{judged.state.value}, score {judged.score}"]
    if judged.phase is not Phase.STEADY:
        parts.append(judged.phase.value)
    if judged.confidence is not Confidence.NONE:
        enough = "enough for a repair" if may_disrupt(judged.confidence) else "a repair needs approval"
        parts.append(f"confidence {judged.confidence.value}, {enough}")
    parts.append(f"{judged.coverage} % of the signals read")
    return f"{', '.join(parts)}; {judged.message or 'nothing is wrong'}"


def _next(state: GpuState, around: Surroundings) -> str:
    at = next_change_at(state, around.now.at, around.rule.health)
    if at is None:
        return "nothing changes without a signal"
    return f"re-evaluated in {at - around.now.at:.0f} s unless a signal arrives first"
