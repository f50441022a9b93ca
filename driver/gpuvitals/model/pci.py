"""PCI bus IDs in one spelling. Pure."""

import re

from gpuvitals.model.ids import PciBusId

_BUS_ID = re.compile(
    r"(?:PCI:)?(?:(?:0x)?(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,2}):(?P<device>[01]?[0-9a-f])(?:\.(?P<function>[0-7]))?\Z",
    re.ASCII | re.IGNORECASE,
)


def normalize_bus_id(text: str) -> PciBusId | None:
    """The spelling of the kernel for a bus ID in any common spelling; None for any other text.

    A missing domain or function is 0:

        >>> normalize_bus_id("00000000:3B:00.0")  # NVML
        '0000:3b:00.0'
        >>> normalize_bus_id("PCI:0000:3b:00")  # an XID line
        '0000:3b:00.0'
        >>> normalize_bus_id("3b:00.0")  # lspci
        '0000:3b:00.0'
    """
    match = _BUS_ID.match(text.strip())
    if match is None:
        return None
    domain, bus, device = (int(match[part] or "0", 16) for part in ("domain", "bus", "device"))
    return PciBusId(f"{domain:04x}:{bus:02x}:{device:02x}.{match['function'] or '0'}")
