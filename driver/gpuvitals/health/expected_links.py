"""Expected NVLinks and unsupported values of GPU models: from NVIDIA's documents, else the most links ever read active.

The table takes precedence over learned values, since a link that never worked would otherwise not be missed. It has no
PCIe lanes, because the same board runs in slots of different width, and no temperatures, because NVML reports the margin
to the slowdown point of the individual GPU.

A value counts as unsupported by a model only if NVIDIA documents it for later architectures. A value that the driver or
a mode of the GPU hides counts as not read.
"""

LINKS = {
    "Tesla T4": 0,
    "NVIDIA L4": 0,
    "NVIDIA L40": 0,
    "NVIDIA L40S": 0,
    "NVIDIA A10": 0,
    "Tesla V100-SXM2-16GB": 6,
    "Tesla V100-SXM2-32GB": 6,
    "NVIDIA A100-SXM4-40GB": 12,
    "NVIDIA A100-SXM4-80GB": 12,
    "NVIDIA H100 80GB HBM3": 18,
    "NVIDIA H200": 18,
    "NVIDIA B200": 18,
    "NVIDIA GB200": 18,
}
"""NVLinks by NVML's product name, without models whose links depend on bridges.

Source: NVIDIA's data sheets and architecture whitepapers of these products."""


_ARCHITECTURES = (
    "Kepler",
    "Maxwell",
    "Pascal",
    "Volta",
    "Turing",
    "Ampere",
    "Ada Lovelace",
    "Hopper",
    "Blackwell",
    "Rubin",
)
"""Oldest first. Source: nvml.h of CUDA 13.5, NVML_DEVICE_ARCH_*."""

_SINCE = {
    "sram_threshold_exceeded": "Ampere",
    "remap_pending": "Ampere",
    "remap_failed": "Ampere",
    "fabric": "Hopper",
}
"""The first architecture that supports a value of a Reading.

Source: nvml.h of CUDA 13.5: nvmlDeviceGetSramEccErrorStatus and nvmlDeviceGetRemappedRows are "for Ampere or newer",
nvmlDeviceGetGpuFabricInfoV is "for Hopper or newer"."""

WITHOUT_LINKS = frozenset({"links", "fabric"})
"""Values that a GPU without NVLink does not have, on any architecture."""


def lacking_values(architecture: str) -> frozenset[str]:
    """The values of a Reading that no GPU of the architecture supports; empty for an unknown architecture."""
    if architecture not in _ARCHITECTURES:
        return frozenset()
    age = _ARCHITECTURES.index(architecture)
    return frozenset(name for name, first in _SINCE.items() if age < _ARCHITECTURES.index(first))


def expected_links(product_name: str, most_active: int | None) -> int | None:
    """The number of NVLinks that should be active, None while unknown. `most_active` is the most ever read active.

    Without any link ever active the result is 0 or None: a virtual machine can get a single GPU of a board without its
    fabric. A fabric that fails to start is reported by the fabric state.
    """
    return LINKS.get(product_name, most_active) if most_active else most_active
