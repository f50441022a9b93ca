"""Decodes the seven status words of XID 74 on Ampere and Hopper.

Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog", workflow for NVLink errors.
"""

from enum import Enum


class Xid74Meaning(Enum):
    """The worst meaning of the bits that are set. HARDWARE: inspect the link. SECONDARY: caused by an error elsewhere."""

    HARDWARE = "hardware"
    SIGNAL = "signal"
    SECONDARY = "secondary"
    IGNORABLE = "ignorable"


def _mask(*bits: int) -> int:
    return sum(1 << bit for bit in bits)


_HARDWARE = {
    0: _mask(4, 5, 8, 9, 12, 16, 17, 24, 28),
    2: _mask(0, 1, 2, 6, 13, 16, 19),
    4: _mask(18, 19, 21, 22, 24, 25, 27, 28),
}
_SIGNAL = {0: _mask(21, 22, 27, 29), 4: _mask(20, 23, 26, 29)}
_SECONDARY = {0: _mask(1, 20), 3: _mask(16, 17, 18)}


def xid74_meaning(words: tuple[int, ...]) -> Xid74Meaning:
    """The worst meaning over all words. A line without words, or with undocumented bits, is SIGNAL."""
    for meaning, table in (
        (Xid74Meaning.HARDWARE, _HARDWARE),
        (Xid74Meaning.SIGNAL, _SIGNAL),
        (Xid74Meaning.SECONDARY, _SECONDARY),
    ):
        if any(word & table.get(index, 0) for index, word in enumerate(words)):
            return meaning
    ignorable = _mask(0, 23, 30)
    known = bool(words) and not any(words[1:]) and words[0] & ~ignorable == 0 and words[0] != 0
    return Xid74Meaning.IGNORABLE if known else Xid74Meaning.SIGNAL
