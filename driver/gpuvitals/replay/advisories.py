"""Kernel lines that name no GPU but help to find a cause: PCIe link losses and driver-wide errors. Pure."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from gpuvitals.model.clock import Moment
from gpuvitals.signals.kmsg.record import KmsgRecord

_PORT = r"(?P<port>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])"
_SURPRISE_DOWN = re.compile(
    rf"[a-z0-9_-]+ {_PORT}:\s+(?:AER:\s+|DPC:\s+)?(?:\[ *5\] (?:SDES|Surprise Down)|.*\bSurprise(?: Link)? Down\b)",
    re.IGNORECASE,
)
"""Bit 5 of the uncorrectable error status. Source: Linux drivers/pci/pcie/aer.c, aer_uncorrectable_error_string."""
_RESET_REQUIRED = re.compile(r"NVRM: .*\[?NV_ERR_RESET_REQUIRED\]?")
"""Source: NVIDIA/open-gpu-kernel-modules, nvstatuscodes.h and the assertions of nvassert.h."""
_NO_GPU_INITIALIZED = re.compile(
    r"NVRM: (?:No NVIDIA (?:GPU|graphics adapter) found|None of the NVIDIA (?:devices|graphics adapters) were initialized)"
)
"""Source: NVIDIA/open-gpu-kernel-modules, kernel-open/nvidia/nv.c, nvidia_init_module."""


class AdvisoryKind(Enum):
    """SURPRISE_DOWN: a PCIe port lost its link. RESET_REQUIRED: the driver rejects work until a reset.

    NO_GPU_INITIALIZED: the driver was loaded and initialised no GPU of the node.
    """

    SURPRISE_DOWN = "surprise down"
    RESET_REQUIRED = "reset required"
    NO_GPU_INITIALIZED = "none up"


@dataclass(frozen=True, slots=True)
class Advisory:
    """The advisory of one line. `port` is the PCIe port that lost its link; it is upstream of the GPU."""

    seen: Moment
    kind: AdvisoryKind
    port: str = ""


RESET_REQUIRED_TEXT = (
    "the driver rejects work until a GPU is reset (NV_ERR_RESET_REQUIRED); the line names no GPU: check the recovery "
    "action of each GPU (nvidia-smi -q) and the XIDs before it"
)
NO_GPU_INITIALIZED_TEXT = (
    "the driver was loaded and brought up no GPU: compare lspci with the expected GPUs of the node, and read the "
    "driver's lines before this one"
)


def surprise_down_text(port: str) -> str:
    """Advice for a GPU that was lost after its PCIe link."""
    return (
        f"the PCIe link below port {port} broke off first: check the seating, power, riser and cables of that slot before "
        "replacing the GPU"
    )


def advisory_text(advisory: Advisory) -> str:
    """The text of an advisory."""
    match advisory.kind:
        case AdvisoryKind.SURPRISE_DOWN:
            return (
                f"the PCIe link below port {advisory.port} broke off (AER Surprise Down): if a GPU falls off the bus next, check "
                "the seating, power, riser and cables of that slot first"
            )
        case AdvisoryKind.RESET_REQUIRED:
            return RESET_REQUIRED_TEXT
        case AdvisoryKind.NO_GPU_INITIALIZED:
            return NO_GPU_INITIALIZED_TEXT
        case _:
            assert_never(advisory.kind)


def advisory_of(record: KmsgRecord, seen: Moment) -> Advisory | None:
    """The advisory of a kernel record; None for any other record."""
    if record.facility != 0:
        return None
    match = _SURPRISE_DOWN.match(record.text)
    if match is not None:
        return Advisory(seen, AdvisoryKind.SURPRISE_DOWN, match["port"].lower())
    if _RESET_REQUIRED.match(record.text):
        return Advisory(seen, AdvisoryKind.RESET_REQUIRED)
    if _NO_GPU_INITIALIZED.match(record.text):
        return Advisory(seen, AdvisoryKind.NO_GPU_INITIALIZED)
    return None
