"""A published device in the terms of resource.k8s.io/v1, with the API server's limits."""

import re
from dataclasses import dataclass
from enum import Enum
from zlib import crc32

from gpuvitals.model.gpu import Gpu, MigInstance
from gpuvitals.model.ids import DeviceName

MAX_KEYS = 32
"""Attributes and capacities of a device, together. Source: kubernetes/api resource/v1/types.go."""
MAX_STRING = 64
"""Bytes of a string or version value. Source: kubernetes/api resource/v1/types.go."""

MAX_NAME = 63
"""Characters of a device name, which is a DNS label. Source: kubernetes/api resource/v1/types.go."""

_PROFILE = re.compile(r"[0-9a-z]+(\.[0-9a-z]+)*([+-][0-9a-z]+(\.[0-9a-z]+)*)*", re.ASCII)
"""Source: NVIDIA MIG User Guide, "Supported MIG Profiles": `1g.10gb`, `1g.10gb+me`, `1c.3g.40gb`, `1g.12gb+me.all`."""
_COMPUTE = re.compile(r"[0-9]+c\.", re.ASCII)
_PLAIN = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-")


@dataclass(frozen=True, slots=True)
class Version:
    """An attribute of type version: strict semver 2.0.0."""

    text: str


AttributeValue = bool | int | str | Version


class TaintEffect(Enum):
    """Effects that the agent sets. It never sets NoExecute."""

    NONE = "None"
    NO_SCHEDULE = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A device taint. `timeAdded` is not part of it: the publisher copies it from the stored slice."""

    key: str
    value: str
    effect: TaintEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device of a ResourceSlice. Keys are sorted, so that equal devices encode to equal bytes."""

    name: DeviceName
    attributes: tuple[tuple[str, AttributeValue], ...]
    capacity: tuple[tuple[str, str], ...]
    taints: tuple[Taint, ...]


def device_name(gpu: Gpu) -> DeviceName:
    """The device's name, derived from the PCI bus id: it never moves to other hardware while the node runs.

    `0000:3b:00.0` gives `gpu-0000-3b-00-0`; its MIG instance of profile 1g.10gb at memory slice 2 gives
    `gpu-0000-3b-00-0-mig-1g-10gb-2`, and a compute instance at compute slice 1 of a GPU instance at memory slice 4
    `gpu-0000-3b-00-0-mig-1c-3g-40gb-4-1`. Instance ids replace a placement that was not read: `-gi7-ci0`.
    """
    name = "gpu-" + gpu.bus_id.replace(":", "-").replace(".", "-")
    if gpu.mig is None:
        return DeviceName(name)
    full = "-".join((name, "mig", _profile_label(gpu.mig.profile), _place(gpu.mig)))
    if len(full) > MAX_NAME:
        digest = f"{crc32(full.encode()):08x}"
        full = f"{full[: MAX_NAME - len(digest) - 1].rstrip('-')}-{digest}"
    return DeviceName(full)


def _profile_label(profile: str) -> str:
    """The profile as a part of a DNS label, different for different profiles: `1g.10gb+me` gives `1g-10gb-plus-me`."""
    label = profile.replace("-", "-minus-").replace("+", "-plus-").replace(".", "-")
    if _PROFILE.fullmatch(profile) is not None:
        return label
    plain = "".join(each if each in _PLAIN else "-" for each in label.lower()).strip("-")
    return f"{plain or 'unknown'}-{crc32(profile.encode(errors='replace')):08x}" if profile else "unknown"


def _place(mig: MigInstance) -> str:
    if mig.placement is None:
        return f"gi{mig.gpu_instance}-ci{mig.compute_instance}"
    if _COMPUTE.match(mig.profile) is None and mig.profile:
        return str(mig.placement)
    if mig.compute_placement is None:
        return f"{mig.placement}-ci{mig.compute_instance}"
    return f"{mig.placement}-{mig.compute_placement}"


def silicon(name: str) -> str:
    """The name of the GPU that a device is or is an instance of: `gpu-0000-3b-00-0`, also for its MIG instances."""
    return name.partition("-mig-")[0]


def device_order(gpu: Gpu) -> tuple[str, int, int, str]:
    """Sort key: PCI order, a GPU before its MIG instances, instances by their ids."""
    ids = (-1, -1) if gpu.mig is None else (gpu.mig.gpu_instance, gpu.mig.compute_instance)
    return gpu.bus_id, *ids, gpu.uuid


def is_offered(gpu: Gpu) -> bool:
    """Whether a claim can allocate the device: a GPU in MIG mode is allocated as its instances only."""
    return not gpu.mig_enabled


def quantity(count: int) -> str:
    """A count in Kubernetes' canonical form: the largest suffix without a fraction, so that stored values compare equal.

    85899345920 gives `80Gi`. Source: k8s.io/apimachinery pkg/api/resource.
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
