"""MIG instances that are created and destroyed while the agent runs: which are published, and which are forgotten.

A destroyed instance is published for as long as a claim holds it. After that its faults are kept, since the next
instance in its place can be the same piece of hardware.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gpuvitals.health.state import GpuState
from gpuvitals.health.unusable import gpu_replaced, instance_gone
from gpuvitals.inventory.device import device_name
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.ports import HeldDevices
from gpuvitals.node.state_store import GpuRecord

MAX_REMEMBERED = 64
"""The most destroyed instances whose faults are kept; the oldest are dropped first."""


def with_gone(entry: GpuRecord, listed: Iterable[Gpu]) -> GpuRecord:
    """The record with `gone` updated: an instance is gone if the driver lists its GPU without the instance."""
    uuids = {gpu.uuid for gpu in listed}
    gone = entry.gpu.mig is not None and entry.gpu.gpu_uuid in uuids and entry.gpu.uuid not in uuids
    unknown = entry.gpu.gpu_uuid not in uuids
    return entry if unknown or gone == entry.gone else replace(entry, gone=gone)


def visible_verdict(entry: GpuRecord, verdict: Verdict) -> Verdict:
    """The verdict to publish: a device that is gone or replaced is failed, whatever its last readings were."""
    if entry.retired:
        return gpu_replaced(verdict)
    return instance_gone(verdict) if entry.gone else verdict


def hidden(
    gpus: Mapping[GpuUuid, GpuRecord], devices: HeldDevices
) -> tuple[frozenset[GpuUuid], frozenset[GpuUuid]]:
    """Devices that must not be published, and those of them that can be forgotten.

    A destroyed instance keeps its device name until its claim ends: another instance in its place waits until then,
    since a name must not move to other hardware under a running claim. A retired device is published only while a claim
    holds it, and keeps no name: another GPU owns its slot.
    """
    away = [uuid for uuid, entry in gpus.items() if entry.gone or entry.retired]
    if not away:
        return frozenset(), frozenset()
    held = {uuid for uuid in away if devices.holders(uuid)}
    names = {device_name(gpus[uuid].gpu) for uuid in held if not gpus[uuid].retired}
    waiting = {
        uuid
        for uuid, entry in gpus.items()
        if uuid not in held and not entry.retired and device_name(entry.gpu) in names
    }
    left = [uuid for uuid in away if uuid not in held]
    instances = [uuid for uuid in left if gpus[uuid].gpu.mig is not None]
    worth_keeping = [uuid for uuid in instances if _remembers(gpus[uuid].state)][-MAX_REMEMBERED:]
    return frozenset(left) | waiting, frozenset(instances) - frozenset(worth_keeping)


def withheld(gpus: Mapping[GpuUuid, GpuRecord], devices: HeldDevices) -> Mapping[GpuUuid, str]:
    """Devices that are not offered because a claim holds their silicon in another form, each with the reason.

    A GPU and its MIG instances are one piece of silicon, which the scheduler does not know. A device that a claim holds
    itself is never withheld.
    """
    instances = [entry for entry in gpus.values() if entry.gpu.mig is not None and not entry.retired]
    if not instances:
        return {}
    held = devices.claimed()
    found: dict[GpuUuid, str] = {}
    for entry in instances:
        parent = gpus.get(entry.gpu.gpu_uuid)
        if parent is None:
            continue
        if not parent.gpu.mig_enabled:
            if entry.gpu.uuid in held:
                found[parent.gpu.uuid] = "a claim holds a MIG instance of this GPU"
        elif parent.gpu.uuid in held:
            found[entry.gpu.uuid] = "a claim holds the whole GPU"
    return {uuid: why for uuid, why in found.items() if uuid not in held}


def _remembers(state: GpuState) -> bool:
    return bool(state.faults or state.xids) or state.probation_until is not None
