"""Lines that name no GPU and tell a person where to look. Pure."""

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
_NONE_UP = re.compile(
    r"NVRM: (?:No NVIDIA (?:GPU|graphics adapter) found|None of the NVIDIA (?:devices|graphics adapters) were initialized)"
)
"""Source: NVIDIA/open-gpu-kernel-modules, kernel-open/nvidia/nv.c, nvidia_init_module."""


class HintKind(Enum):
    """SURPRISE_DOWN: the PCIe link below a port broke off. RESET_REQUIRED: the driver refuses work until a reset.

    NONE_UP: the driver was loaded and brought up no GPU of the node.
    """

    SURPRISE_DOWN = "surprise down"
    RESET_REQUIRED = "reset required"
    NONE_UP = "none up"


@dataclass(frozen=True, slots=True)
class Hint:
    """What one line tells a person. `port` is the PCI port that lost its link; it is above the GPU, not the GPU."""

    seen: Moment
    kind: HintKind
    port: str = ""


RESET_REQUIRED_TEXT = (
    "the driver refuses work until a GPU is reset (NV_ERR_RESET_REQUIRED); the line does not say which: see the GPU's "
    "recovery action (nvidia-smi -q) and the XIDs before it"
)
NONE_UP_TEXT = (
    "the driver was loaded and brought up no GPU: compare lspci with the GPUs that the node should have, and read the "
    "driver's lines before it"
)


def surprise_down_text(port: str) -> str:
    """What a person should know of a GPU that was lost after a PCIe link broke off."""
    return (
        f"the PCIe link below port {port} broke off first: check the seating, power, riser and cables of that slot before "
        "replacing the GPU"
    )


def hint_text(hint: Hint) -> str:
    """What the hint tells by itself."""
    match hint.kind:
        case HintKind.SURPRISE_DOWN:
            return (
                f"the PCIe link below port {hint.port} broke off (AER Surprise Down): if a GPU falls off the bus next, check "
                "the seating, power, riser and cables of that slot first"
            )
        case HintKind.RESET_REQUIRED:
            return RESET_REQUIRED_TEXT
        case HintKind.NONE_UP:
            return NONE_UP_TEXT
        case _:
            assert_never(hint.kind)


def hint_of(record: KmsgRecord, seen: Moment) -> Hint | None:
    """The hint of a record of the kernel; None for any other."""
    if record.facility != 0:
        return None
    match = _SURPRISE_DOWN.match(record.text)
    if match is not None:
        return Hint(seen, HintKind.SURPRISE_DOWN, match["port"].lower())
    if _RESET_REQUIRED.match(record.text):
        return Hint(seen, HintKind.RESET_REQUIRED)
    if _NONE_UP.match(record.text):
        return Hint(seen, HintKind.NONE_UP)
    return None
