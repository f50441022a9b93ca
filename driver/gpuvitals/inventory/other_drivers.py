"""Detects other drivers that allocate this node's GPUs. Pure: `kube` reads their slices and the Node.

Neither the scheduler nor the kubelet knows that devices of two drivers can be one GPU: both would allocate it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.gpu_name import normalize_gpu_name

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDriverDevice:
    """One device in another driver's slice, with the UUIDs and PCI bus ids in its attributes."""

    driver: str
    device: str
    uuids: frozenset[str] = frozenset()
    bus_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDrivers:
    """Devices of other drivers on this node, and the Node's allocatable resources (name, amount)."""

    devices: tuple[OtherDriverDevice, ...] = ()
    resources: tuple[tuple[str, str], ...] = ()


def driver_conflict(gpus: Iterable[Gpu], others: OtherDrivers) -> str:
    """The reasons, as text, why this node's GPUs must not be published; empty without a conflict."""
    reasons = [
        f"the node has {amount} {resource} allocatable, from a device plugin"
        for resource, amount in others.resources
        if _is_gpu_resource(resource) and amount.strip() not in ("", "0")
    ]
    reasons += _shared(tuple(gpus), others)
    if not reasons:
        return ""
    more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return "; ".join(reasons[:_SHOWN]) + more


def _shared(gpus: tuple[Gpu, ...], others: OtherDrivers) -> Iterator[str]:
    uuids = {gpu.uuid for gpu in gpus} | {gpu.mig.parent for gpu in gpus if gpu.mig is not None}
    bus_ids = {normalize_gpu_name(gpu.bus_id) for gpu in gpus}
    for theirs in others.devices:
        same = sorted(theirs.uuids & uuids) or sorted(
            bus for bus in theirs.bus_ids if normalize_gpu_name(bus) in bus_ids
        )
        if same:
            yield f"driver {theirs.driver} publishes {same[0]} as {theirs.device}"


def _is_gpu_resource(name: str) -> bool:
    """The device plugin's resource names of whole, shared and MIG GPUs. Source: NVIDIA/k8s-device-plugin README."""
    return name == "nvidia.com/gpu" or name.startswith(("nvidia.com/gpu.", "nvidia.com/mig-"))
