"""The names by which people and programs call a GPU, and when two of them are the same. Pure."""

import re

from gpuvitals.model.ids import PciBusId

_BUS_ID = re.compile(
    r"(?:PCI:)?(?:(?:0x)?(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,2}):(?P<device>[01]?[0-9a-f])(?:\.(?P<function>[0-7]))?\Z",
    re.ASCII | re.IGNORECASE,
)


def normal_bus_id(text: str) -> PciBusId | None:
    """The one spelling of a PCI bus ID; None where `text` is not one.

    The kernel prints `0000:3b:00.0`, its XID lines `PCI:0000:3b:00`, NVML `00000000:3B:00.0` and lspci `3b:00.0`: all
    of them give `0000:3b:00.0`.
    """
    match = _BUS_ID.match(text.strip())
    if match is None:
        return None
    return bus_id_of(match["domain"], match["bus"], match["device"], match["function"])


def bus_id_of(domain: str | None, bus: str, device: str, function: str | None) -> PciBusId:
    """The one spelling of a PCI bus ID whose parts were printed as hexadecimal digits. Without a part, it is 0."""
    place = f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(device, 16):02x}"
    return PciBusId(f"{place}.{function or '0'}")


def folded_name(text: str) -> str:
    """The name with one spelling for all that mean the same: bus IDs normalised, letters lower."""
    return normal_bus_id(text) or text.strip().lower()
