"""MIG instances that come and go while the agent runs: which of them the node shows, and which it may forget. Pure.

A destroyed instance is shown for as long as a claim holds it. After that its faults are remembered, since the next
instance in its place may be the same piece of hardware.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from gpuvitals.health.state import GpuState
from gpuvitals.health.unusable import gpu_replaced, instance_gone
from gpuvitals.inventory.device import device_name
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.state_store import GpuRecord

MAX_REMEMBERED = 64
"""Destroyed instances whose faults are remembered, the newest first to stay."""


def marked(entry: GpuRecord, listed: Iterable[Gpu]) -> GpuRecord:
    """The device, as gone or there: an instance is gone where the driver lists its GPU and not the instance."""
    uuids = {gpu.uuid for gpu in listed}
    gone = entry.gpu.mig is not None and entry.gpu.gpu_uuid in uuids and entry.gpu.uuid not in uuids
    unknown = entry.gpu.gpu_uuid not in uuids
    return entry if unknown or gone == entry.gone else replace(entry, gone=gone)


def seen_as(entry: GpuRecord, judged: Verdict) -> Verdict:
    """The verdict to show: a device that is not there any more fails whatever its last readings were."""
    if entry.retired:
        return gpu_replaced(judged)
    return instance_gone(judged) if entry.gone else judged


def hidden(
    gpus: Mapping[GpuUuid, GpuRecord], is_held: Callable[[GpuUuid], bool]
) -> tuple[frozenset[GpuUuid], frozenset[GpuUuid]]:
    """Devices that are not to be shown, and those of them that may be forgotten.

    A destroyed instance keeps its device name until its claim lets it go: another in its place waits until then, or a
    name would move to other hardware under a running claim. A retired device is shown only while a claim holds it, and
    keeps no name: its slot is another GPU's.
    """
    away = [uuid for uuid, entry in gpus.items() if entry.gone or entry.retired]
    if not away:
        return frozenset(), frozenset()
    held = {uuid for uuid in away if is_held(uuid)}
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


def withheld(
    gpus: Mapping[GpuUuid, GpuRecord], claimed: Callable[[], Collection[GpuUuid]]
) -> Mapping[GpuUuid, str]:
    """Devices that are not offered since a claim holds their silicon in another form, each with the reason.

    A GPU and its MIG instances are one piece of silicon, and the scheduler does not know it. A device that a claim
    holds is not among them: it was there first.
    """
    instances = [entry for entry in gpus.values() if entry.gpu.mig is not None and not entry.retired]
    if not instances:
        return {}
    held = claimed()
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
