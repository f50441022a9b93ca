"""The action for an NVLink5 XID (144..150), decoded from the unit and the two status words on its line.

Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog", NVLink5 decode sheet. Drivers before R575 keep
the unit in bits 9:0 of the first word, later ones in bits 6:0; both are tried, always within one XID number.
"""

from enum import Enum


class Nvlink5Action(Enum):
    """The action in NVIDIA's decode sheet. XID_154_EVAL: follow the recovery action if there is one, else restart the application."""

    RESET_GPU = "RESET_GPU"
    XID_154_EVAL = "XID_154_EVAL"
    IGNORE = "IGNORE"


_PEER_REASONS = frozenset({0b100110, 0b101000})
_PEER_DOWN = range(32, 38)
"""Reasons of NETIR_LINK_EVT for a link whose other end went down first: 100000 to 100101."""
_RXPIPE_PROMOTED_V1 = 1 << 10
_RXPIPE_PROMOTED_V2 = 1 << 7

_V1_UNITS = {
    144: {0x021: "SAW_MVB"},
    145: {
        0x062: "RLW_CTRL",
        0x082: "RLW_REMAP",
        0x0A2: "RLW_RSPCOL",
        0x0C2: "RLW_RXPIPE",
        0x0E2: "RLW_SRC_TRACK",
        0x102: "RLW_TAGSTATE",
    },
    146: {0x123: "TLW_CTRL", 0x143: "TLW_RX", 0x163: "TLW_TX"},
    147: {0x184: "TREX"},
    148: {0x005: "NVLPW"},
    149: {0x006: "NETIR_INT", 0x1C6: "NETIR_LINK_EVT", 0x226: "NETIR_BER_EVENT", 0x246: "NETIR_MFDE_EVENT"},
    150: {0x000: "MSE"},
}
_V2_UNITS = {
    144: {0x01: "SAW_MVB"},
    145: {
        0x03: "RLW_CTRL",
        0x04: "RLW_REMAP",
        0x05: "RLW_RSPCOL",
        0x06: "RLW_RXPIPE",
        0x07: "RLW_SRC_TRACK",
        0x08: "RLW_TAGSTATE",
    },
    146: {0x09: "TLW_CTRL", 0x0A: "TLW_RX", 0x0B: "TLW_RX", 0x0C: "TLW_TX", 0x0D: "TLW_TX"},
    147: {0x0E: "TREX"},
    148: {0x0F: "NVLPW"},
    149: {0x18: "NETIR_INT", 0x11: "NETIR_LINK_EVT", 0x13: "NETIR_BER_EVENT", 0x14: "NETIR_MFDE_EVENT"},
    150: {0x00: "MSE"},
}
_RESET = {
    "SAW_MVB": frozenset({0x2, 0x10}),
    "RLW_REMAP": frozenset({0x40, 0x80}),
    "RLW_RSPCOL": frozenset({0x2}),
    "RLW_SRC_TRACK": frozenset({0x1, 0x10, 0x20}),
    "RLW_TAGSTATE": frozenset({0x2, 0x20000, 0x100000}),
    "TLW_CTRL": frozenset({0x4}),
    "TLW_RX": frozenset({0x4}),
    "TLW_TX": frozenset({0x4}),
    "NETIR_MFDE_EVENT": frozenset({0x1, 0x4, 0x5, 0x7}),
}
_EVALUATE = {
    "RLW_REMAP": frozenset({0x1, 0x2, 0x4, 0x8, 0x10, 0x20}),
    "RLW_SRC_TRACK": frozenset({0x4, 0x8}),
}
_RXPIPE_RESET = frozenset({0x1, 0x2, 0x4})


def nvlink5_action(
    code: int, unit: str, intr_info: int | None, error_status: int | None
) -> Nvlink5Action | None:
    """The action for one line; None if the line has no status words or names no unit of the sheet.

    `unit` is the name on the line. It decides between the two encodings if both fit.
    """
    if intr_info is None or error_status is None:
        return None
    if code == 150:
        return Nvlink5Action.RESET_GPU
    found = _unit(code, unit, intr_info)
    if found is None:
        return Nvlink5Action.IGNORE if 144 <= code <= 148 else None
    family, promoted = found
    if family == "RLW_RXPIPE":
        reset = promoted and error_status in _RXPIPE_RESET
        return Nvlink5Action.RESET_GPU if reset else Nvlink5Action.IGNORE
    if family == "NETIR_INT":
        return Nvlink5Action.RESET_GPU
    if family == "NETIR_LINK_EVT":
        peer = (intr_info >> 20) & 0x3F in _PEER_REASONS
        return Nvlink5Action.IGNORE if peer else Nvlink5Action.RESET_GPU
    if error_status in _RESET.get(family, frozenset()):
        return Nvlink5Action.RESET_GPU
    if error_status in _EVALUATE.get(family, frozenset()):
        return Nvlink5Action.XID_154_EVAL
    return Nvlink5Action.IGNORE


def points_at_peer(code: int, unit: str, intr_info: int | None) -> bool:
    """Whether the line reports that the other end of the link, a GPU or a switch, went down first."""
    if code != 149 or intr_info is None:
        return False
    found = _unit(code, unit, intr_info)
    return found is not None and found[0] == "NETIR_LINK_EVT" and (intr_info >> 20) & 0x3F in _PEER_DOWN


def _unit(code: int, printed: str, intr_info: int) -> tuple[str, bool] | None:
    """The unit's family and, for RLW_RXPIPE, whether the error was promoted; None if neither encoding fits."""
    candidates = (
        (_V1_UNITS.get(code, {}).get(intr_info & 0x3FF), bool(intr_info & _RXPIPE_PROMOTED_V1)),
        (_V2_UNITS.get(code, {}).get(intr_info & 0x7F), bool(intr_info & _RXPIPE_PROMOTED_V2)),
    )
    fitting = [(family, promoted) for family, promoted in candidates if family is not None]
    named = [entry for entry in fitting if _names(printed, entry[0])]
    return next(iter(named or fitting), None)


def _names(printed: str, family: str) -> bool:
    if family == "NETIR_LINK_EVT":
        return printed.startswith(("NETIR_LINK_EVT", "NETIR_LINK_DOWN"))
    return printed.startswith(family)
