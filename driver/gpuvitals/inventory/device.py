"""A published device in the words of resource.k8s.io/v1, and what the API server allows of it."""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import DeviceName

MAX_KEYS = 32
"""Attributes and capacities of a device, together. Source: kubernetes/api resource/v1/types.go."""
MAX_STRING = 64
"""Bytes of a string or version value. Source: kubernetes/api resource/v1/types.go."""


@dataclass(frozen=True, slots=True)
class Version:
    """An attribute of type version: strict semver 2.0.0."""

    text: str


AttributeValue = bool | int | str | Version


class TaintEffect(Enum):
    """Effects that the agent uses; NoExecute is never its to set."""

    NONE = "None"
    NO_SCHEDULE = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A device taint. `timeAdded` is not here: the publisher carries the stored one forward."""

    key: str
    value: str
    effect: TaintEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One entry of a ResourceSlice. Keys are sorted, so that equal devices encode to equal bytes."""

    name: DeviceName
    attributes: tuple[tuple[str, AttributeValue], ...]
    capacity: tuple[tuple[str, str], ...]
    taints: tuple[Taint, ...]


def device_name(gpu: Gpu) -> DeviceName:
    """The device's name: from the PCI bus id, so it never moves to other hardware while the node runs.

    `0000:3b:00.0` gives `gpu-0000-3b-00-0`; its MIG instance 7/0 gives `gpu-0000-3b-00-0-mig-7-0`.
    """
    name = "gpu-" + gpu.bus_id.replace(":", "-").replace(".", "-")
    if gpu.mig is not None:
        name += f"-mig-{gpu.mig.gpu_instance}-{gpu.mig.compute_instance}"
    return DeviceName(name)


def silicon(name: str) -> str:
    """The name of the GPU that a device is or is an instance of: `gpu-0000-3b-00-0`, also for its MIG instances."""
    return name.partition("-mig-")[0]


def device_order(gpu: Gpu) -> tuple[str, int, int, str]:
    """Sorts devices as the bus numbers them, a GPU before its MIG instances and these by their ids."""
    ids = (-1, -1) if gpu.mig is None else (gpu.mig.gpu_instance, gpu.mig.compute_instance)
    return gpu.bus_id, *ids, gpu.uuid


def is_offered(gpu: Gpu) -> bool:
    """Whether the device can be given to a claim: a GPU in MIG mode is given as its instances only."""
    return not gpu.mig_enabled


def quantity(count: int) -> str:
    """A count as Kubernetes writes it back: the largest suffix without a fraction, so that a stored value compares equal.

    85899345920 gives `80Gi`. Source: k8s.io/apimachinery pkg/api/resource, Quantity's canonical form.
    """
    base, suffixes = (
        (1024, ("Ki", "Mi", "Gi", "Ti", "Pi")) if count % 1024 == 0 else (1000, ("k", "M", "G", "T", "P"))
    )
    shown = ""
    for suffix in suffixes:
        if count == 0 or count % base:
            break
        count, shown = count // base, suffix
    return f"{count}{shown}"
