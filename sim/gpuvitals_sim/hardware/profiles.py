"""Hardware profiles of scripted GPUs: model, memory, links, MIG instances, and bus addresses.

Models, memory and link counts are those of the named products; identities are invented.
"""

import uuid
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gpuvitals.model.signal import Checkup
from gpuvitals_sim.hardware.mig import with_instance
from gpuvitals_sim.hardware.state_file import HEALTHY_CHECKUP, GpuScript, Readings, all_active

_NAMESPACE = uuid.UUID("5b0c2a0e-6f0a-4f0e-9d54-7c1d7c7a9a11")
_SLOTS = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProfile:
    """One model of GPU. `fabric`: it registers with NVSwitches. `instances`: its MIG instances.

    `lacks`: values of a poll that the model does not support.
    """

    product_name: str
    architecture: str
    brand: str
    memory_bytes: int
    cuda_compute_capability: str
    links: int
    fabric: bool
    pci_device: str
    lacks: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


_BEFORE_HOPPER = ("fabric",)
"""Values that exist since Hopper. Source: nvml.h of CUDA 13.5, nvmlDeviceGetGpuFabricInfoV."""

PROFILES = {
    "h100": GpuProfile(
        product_name="NVIDIA H100 80GB HBM3",
        architecture="Hopper",
        brand="Nvidia",
        memory_bytes=80 * _GIB,
        cuda_compute_capability="9.0",
        links=18,
        fabric=True,
        pci_device="0x2330",
    ),
    "a100": GpuProfile(
        product_name="NVIDIA A100-SXM4-80GB",
        architecture="Ampere",
        brand="Nvidia",
        memory_bytes=80 * _GIB,
        cuda_compute_capability="8.0",
        links=12,
        fabric=False,
        lacks=_BEFORE_HOPPER,
        pci_device="0x20b2",
    ),
    "a100-40gb": GpuProfile(
        product_name="NVIDIA A100-SXM4-40GB",
        architecture="Ampere",
        brand="Nvidia",
        memory_bytes=40 * _GIB,
        cuda_compute_capability="8.0",
        links=12,
        fabric=False,
        lacks=_BEFORE_HOPPER,
        pci_device="0x20b0",
    ),
    "b200": GpuProfile(
        product_name="NVIDIA B200",
        architecture="Blackwell",
        brand="Nvidia",
        memory_bytes=180 * _GIB,
        cuda_compute_capability="10.0",
        links=18,
        fabric=True,
        pci_device="0x2901",
    ),
    "t4": GpuProfile(
        product_name="Tesla T4",
        architecture="Turing",
        brand="Tesla",
        memory_bytes=16 * _GIB,
        cuda_compute_capability="7.5",
        links=0,
        fabric=False,
        pci_device="0x1eb8",
        # Row remapping and the count of SRAM errors came with Ampere; pages are retired instead.
        lacks=(
            *_BEFORE_HOPPER,
            "sram_threshold_exceeded",
            "remap_pending",
            "remap_failed",
            "remapped_uncorrectable",
            "banks_without_spare",
        ),
    ),
    "l40s": GpuProfile(
        product_name="NVIDIA L40S",
        architecture="Ada Lovelace",
        brand="Nvidia",
        memory_bytes=48 * _GIB,
        cuda_compute_capability="8.9",
        links=0,
        fabric=False,
        lacks=_BEFORE_HOPPER,
        pci_device="0x26b9",
    ),
}
"""The profiles by the names in scenarios."""
PROFILES["a100-mig"] = replace(PROFILES["a100"], instances=("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"))


def gpu_script(profile: GpuProfile, node: str, index: int) -> GpuScript:
    """A healthy GPU of a node; the same node and index give the same identity every time."""
    identity = uuid.uuid5(_NAMESPACE, f"{node}/{index}")
    domain, slot = divmod(index, len(_SLOTS))
    script = GpuScript(
        uuid=f"GPU-{identity}",
        bus_id=f"{domain:04x}:{_SLOTS[slot]}:00.0",
        name=profile.product_name,
        architecture=profile.architecture,
        brand=profile.brand,
        serial=f"16{identity.int % 10**11:011d}",
        minor=index,
        memory_bytes=profile.memory_bytes,
        cuda_compute_capability=profile.cuda_compute_capability,
        pci_device=profile.pci_device,
        numa_node=0 if slot < len(_SLOTS) // 2 else 1,
        readings=_healthy(profile),
        checkup=_checkup(profile),
    )
    for instance in profile.instances:
        script = with_instance(script, instance)
    return script


def _checkup(profile: GpuProfile) -> Checkup:
    """The checkup without values of older or newer models. Source: docs.nvidia.com NVML API reference."""
    old, has_link_5 = profile.architecture == "Turing", profile.architecture == "Blackwell"
    lacks = ["link_recoveries_failed", "link_errors_per_petabit"] if not has_link_5 else []
    if not profile.links:
        lacks += ["link_replays", "link_recoveries", "link_crc_errors"]
    lacks += ["repair_pending"] if old else ["retired_pages", "page_retirement_pending"]
    if profile.architecture not in ("Hopper", "Blackwell"):
        lacks += ["memory_unrepairable"]
    lacking: dict[str, Any] = dict.fromkeys(lacks)
    return replace(HEALTHY_CHECKUP, **lacking, unsupported=frozenset(lacks))


def _healthy(profile: GpuProfile) -> Readings:
    readings = Readings(
        links=all_active(profile.links),
        fabric="completed" if profile.fabric else "not-supported",
        unsupported=profile.lacks,
    )
    lacking: dict[str, object] = dict.fromkeys(profile.lacks)
    return msgspec.structs.replace(readings, **lacking)
