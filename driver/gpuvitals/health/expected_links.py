"""What a model of GPU should have: from a table where NVIDIA's documents say so, else the most that was ever read.

The table wins over what was learned, since a link that never worked would otherwise never be missed. It says nothing
of PCIe lanes, as the same board runs in wide and in narrow slots, nor of heat: NVML's margin counts to the point at
which the very GPU slows down.

A signal that a model lacks is one that NVIDIA documents for later architectures only. Nothing else is taken for lacking:
a driver that does not support a value, or a mode of the GPU that hides it, leaves that value unwatched.
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
"""NVLinks by NVML's product name. Not here are models whose links depend on bridges.

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
"""The first architecture that has a value of a Reading.

Source: nvml.h of CUDA 13.5: nvmlDeviceGetSramEccErrorStatus and nvmlDeviceGetRemappedRows are "for Ampere or newer",
nvmlDeviceGetGpuFabricInfoV is "for Hopper or newer"."""

WITHOUT_LINKS = frozenset({"links", "fabric"})
"""What a GPU without NVLink lacks, whatever its architecture."""


def lacking_values(architecture: str) -> frozenset[str]:
    """The values of a Reading that no GPU of the architecture has; none for one that is not in the list."""
    if architecture not in _ARCHITECTURES:
        return frozenset()
    age = _ARCHITECTURES.index(architecture)
    return frozenset(name for name, first in _SINCE.items() if age < _ARCHITECTURES.index(first))


def expected_links(product_name: str, most_active: int | None) -> int | None:
    """NVLinks that the GPU should have active, given the most that were ever read active; None where nobody knows yet.

    A GPU on which no link ever was active has none to miss: virtual machines get single GPUs of a board, cut off from
    its fabric. A fabric that fails to come up says so itself.
    """
    return LINKS.get(product_name, most_active) if most_active else most_active
