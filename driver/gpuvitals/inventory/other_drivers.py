"""Who else gives out this node's GPUs. Pure: `kube` reads the neighbours, this decides whether one is a rival.

Neither the scheduler nor the kubelet knows that a device of two drivers is one GPU: each driver sees it free.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.gpu_name import folded_name

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourDevice:
    """One device in another driver's slice: who publishes it, and the UUIDs and PCI bus ids that it names."""

    driver: str
    device: str
    uuids: frozenset[str] = frozenset()
    bus_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What other drivers publish for this node, and the resources by which a device plugin gives out GPUs."""

    devices: tuple[NeighbourDevice, ...] = ()
    resources: tuple[tuple[str, str], ...] = ()


def other_driver(gpus: Iterable[Gpu], neighbours: Neighbours) -> str:
    """Why this node's GPUs must not be published, for a person; empty where nobody else gives them out."""
    reasons = [
        f"the node has {amount} {resource} allocatable, from a device plugin"
        for resource, amount in neighbours.resources
        if _is_gpu_resource(resource) and amount.strip() not in ("", "0")
    ]
    reasons += _shared(tuple(gpus), neighbours)
    if not reasons:
        return ""
    more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return "; ".join(reasons[:_SHOWN]) + more


def _shared(gpus: tuple[Gpu, ...], neighbours: Neighbours) -> Iterator[str]:
    uuids = {gpu.uuid for gpu in gpus} | {gpu.mig.parent for gpu in gpus if gpu.mig is not None}
    bus_ids = {folded_name(gpu.bus_id) for gpu in gpus}
    for theirs in neighbours.devices:
        same = sorted(theirs.uuids & uuids) or sorted(
            bus for bus in theirs.bus_ids if folded_name(bus) in bus_ids
        )
        if same:
            yield f"driver {theirs.driver} publishes {same[0]} as {theirs.device}"


def _is_gpu_resource(name: str) -> bool:
    """Names that the device plugin gives whole, shared and MIG GPUs. Source: NVIDIA/k8s-device-plugin README."""
    return name == "nvidia.com/gpu" or name.startswith(("nvidia.com/gpu.", "nvidia.com/mig-"))
