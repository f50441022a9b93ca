"""The node report: facts about the node, and a record of each device that its slices no longer list.

It is an annotation on the pool's first slice. It has no counter and no timestamp that changes by itself: each write of
a slice wakes the scheduler, so the text changes only together with a verdict.
"""

import json
from dataclasses import dataclass
from typing import Any

from gpuvitals.health.reasons import OTHER_DRIVER
from gpuvitals.health.score import VERSION
from gpuvitals.inventory.device import device_name, is_offered
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.ids import DeviceName
from gpuvitals.model.snapshot import GpuHealth, Snapshot

MAX_BYTES = 16 * 1024
_MAX_CONFLICT = 512
_MAX_WHY = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A device that is not published because the API server would refuse it, or has refused it."""

    device: DeviceName
    why: str

    def __str__(self) -> str:
        return f"device {self.device} is not published: {self.why}"


def node_report(
    snapshot: Snapshot, mode: ServiceMode, conflict: str = "", left_out: tuple[LeftOut, ...] = ()
) -> str:
    """The report as compact JSON with sorted keys, at most MAX_BYTES; lists that are too long are cut and counted.

    A `conflict` with another driver is the reason why no device is published; `left_out` are devices that the API
    server refuses.
    """
    facts = snapshot.facts
    coverage = [entry.verdict.coverage for entry in snapshot.gpus]
    body: dict[str, object] = {
        "mode": mode.value,
        "monitors": {source.value: state.value for source, state in facts.monitors},
        "reasons": _reasons(snapshot, conflict),
        "gpus": sum(entry.gpu.mig is None for entry in snapshot.gpus),
        "expectedGpus": facts.expected_gpus,
        "missingGpus": list(facts.missing_gpus),
        "coverage": min(coverage, default=0),
        "scoreVersion": VERSION,
    }
    if snapshot.boot_id:
        body["bootID"] = snapshot.boot_id
    if conflict:
        body["otherDriver"] = conflict[:_MAX_CONFLICT]
    out = [entry for entry in snapshot.gpus if entry.isolated and is_offered(entry.gpu)]
    body["withdrawn"] = [_record(entry) for entry in out] if mode is ServiceMode.WITHDRAW else []
    return _bounded(body | _exceptions(snapshot) | _left_out(left_out))


def _exceptions(snapshot: Snapshot) -> dict[str, object]:
    """Lists that the report has only if they are not empty."""
    lists: dict[str, list[Any]] = {
        "statements": list(snapshot.facts.reports),
        "spared": [
            {"device": device_name(each.gpu), "reason": each.verdict.reason, "why": each.spared}
            for each in snapshot.gpus
            if each.spared
        ],
        "unprepared": _unprepared(snapshot),
        "withheld": [
            {"device": device_name(each.gpu), "why": each.withheld} for each in snapshot.gpus if each.withheld
        ],
        "retiredGpus": list(snapshot.facts.retired),
    }
    return {key: entries for key, entries in lists.items() if entries}


def _reasons(snapshot: Snapshot, conflict: str) -> list[str]:
    lacks = [entry.unprepared.reason for entry in snapshot.gpus if entry.unprepared is not None]
    return list(dict.fromkeys([*snapshot.facts.reasons, *([OTHER_DRIVER] if conflict else []), *lacks]))


def _unprepared(snapshot: Snapshot) -> list[dict[str, object]]:
    """The devices that can't be prepared, grouped by cause."""
    devices: dict[tuple[str, str], list[str]] = {}
    for entry in snapshot.gpus:
        if entry.unprepared is not None:
            cause = (entry.unprepared.reason, entry.unprepared.message[:_MAX_WHY])
            devices.setdefault(cause, []).append(device_name(entry.gpu))
    return [{"reason": reason, "why": why, "devices": names} for (reason, why), names in devices.items()]


def with_left_out(report: str, left_out: tuple[LeftOut, ...]) -> str:
    """The report with these devices added to its `leftOut`."""
    if not left_out:
        return report
    body = json.loads(report)
    return _bounded({**body, "leftOut": [*body.get("leftOut", []), *_left_out(left_out)["leftOut"]]})


def _left_out(left_out: tuple[LeftOut, ...]) -> dict[str, list[dict[str, str]]]:
    records = [{"device": each.device, "why": each.why[:_MAX_WHY]} for each in left_out]
    return {"leftOut": records} if records else {}


def _bounded(body: dict[str, object]) -> str:
    text = _encode(body)
    for key in (
        "retiredGpus",
        "withdrawn",
        "spared",
        "unprepared",
        "statements",
        "missingGpus",
        "withheld",
        "leftOut",
    ):
        text = _cut(body, key, text)
    return text


def _cut(body: dict[str, object], key: str, text: str) -> str:
    """The body as text. Drops the last entries of the list `key` until the text is within MAX_BYTES."""
    entries = body.get(key, [])
    assert isinstance(entries, list)
    omitted = 0
    while len(text.encode()) > MAX_BYTES and entries:
        entries.pop()
        omitted += 1
        body[f"{key}Omitted"] = omitted
        text = _encode(body)
    return text


def _record(entry: GpuHealth) -> dict[str, object]:
    verdict = entry.shown
    return {
        "device": device_name(entry.gpu),
        "uuid": entry.gpu.uuid,
        "pciBusID": entry.gpu.bus_id,
        "state": verdict.state.value,
        "reason": verdict.reason,
        "message": verdict.message[:256],
        "lastXid": verdict.last_xid,
        "recoveryAction": verdict.recovery_action,
        "xidErrors": verdict.xid_errors,
        "nvlinkStatus": verdict.nvlink_status.value,
        "rowRemap": verdict.row_remap.value,
        "confidence": verdict.confidence.value,
        "productName": entry.gpu.product_name,
    }


def _encode(body: dict[str, object]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))
