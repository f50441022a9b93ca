"""The decode of XIDs 144..150 and 74, against NVIDIA's sheets written out once more by hand.

Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog", NVLink5 decode sheet and NVLink workflow.
"""

import pytest

from gpuvitals.health.xid74 import Xid74Meaning, xid74_meaning
from gpuvitals.health.xid_nvlink5 import Nvlink5Action, nvlink5_action

RESET, EVALUATE, IGNORE = Nvlink5Action.RESET_GPU, Nvlink5Action.XID_154_EVAL, Nvlink5Action.IGNORE
# XID, printed unit, its code before and since R575, error status for a reset, error status for XID 154.
UNITS = [
    (144, "SAW_MVB", 0x021, 0x01, {0x2, 0x10}, set()),
    (145, "RLW_CTRL", 0x062, 0x03, set(), set()),
    (145, "RLW_REMAP", 0x082, 0x04, {0x40, 0x80}, {0x1, 0x2, 0x4, 0x8, 0x10, 0x20}),
    (145, "RLW_RSPCOL", 0x0A2, 0x05, {0x2}, set()),
    (145, "RLW_SRC_TRACK", 0x0E2, 0x07, {0x1, 0x10, 0x20}, {0x4, 0x8}),
    (145, "RLW_TAGSTATE", 0x102, 0x08, {0x2, 0x20000, 0x100000}, set()),
    (146, "TLW_CTRL", 0x123, 0x09, {0x4}, set()),
    (146, "TLW_RX", 0x143, 0x0A, {0x4}, set()),
    (146, "TLW_RX_PIPE1", 0x143, 0x0B, {0x4}, set()),
    (146, "TLW_TX", 0x163, 0x0C, {0x4}, set()),
    (146, "TLW_TX_PIPE1", 0x163, 0x0D, {0x4}, set()),
    (147, "TREX", 0x184, 0x0E, set(), set()),
    (148, "NVLPW", 0x005, 0x0F, set(), set()),
    (149, "NETIR_BER_EVENT", 0x226, 0x13, set(), set()),
    (149, "NETIR_MFDE_EVENT", 0x246, 0x14, {0x1, 0x4, 0x5, 0x7}, set()),
]
STATUSES = [0, *(1 << bit for bit in range(32)), 0x3, 0x5, 0x7, 0x41]


@pytest.mark.parametrize(
    ("code", "unit", "old", "new", "reset", "evaluate"), UNITS, ids=[f"{row[0]}-{row[1]}" for row in UNITS]
)
def test_the_unit_and_the_status_decide_in_both_encodings(
    code: int, unit: str, old: int, new: int, reset: set[int], evaluate: set[int]
) -> None:
    for status in STATUSES:
        expected = RESET if status in reset else EVALUATE if status in evaluate else IGNORE
        for intr_info in (old, new, new | 0x3 << 20, 0xFC00_0000 | new):
            assert nvlink5_action(code, unit, intr_info, status) is expected, (hex(intr_info), hex(status))


@pytest.mark.parametrize(("intr_info", "promoted"), [(0x0C2, 1 << 10), (0x06, 1 << 7)], ids=["old", "new"])
def test_a_receive_pipe_resets_only_where_its_error_was_promoted(intr_info: int, promoted: int) -> None:
    for status in STATUSES:
        expected = RESET if status in {1, 2, 4} else IGNORE
        assert nvlink5_action(145, "RLW_RXPIPE", intr_info | promoted, status) is expected
        assert nvlink5_action(145, "RLW_RXPIPE", intr_info, status) is IGNORE


@pytest.mark.parametrize("unit", ["NETIR_LINK_EVT", "NETIR_LINK_DOWN"])
@pytest.mark.parametrize("code", [0x1C6, 0x11], ids=["old", "new"])
def test_a_lost_link_resets_unless_it_is_the_peers_doing(unit: str, code: int) -> None:
    for reason in range(64):
        expected = IGNORE if reason in (0b100110, 0b101000) else RESET
        assert nvlink5_action(149, unit, code | reason << 20, 0) is expected


@pytest.mark.parametrize("status", STATUSES)
def test_interrupts_of_the_link_and_its_management_always_reset(status: int) -> None:
    assert nvlink5_action(149, "NETIR_INT", 0x006, status) is RESET
    assert nvlink5_action(149, "NETIR", 0x18, status) is RESET
    assert nvlink5_action(150, "MSE_WATCHDOG", 0, status) is RESET


def test_codes_outside_the_sheet_are_ignored_or_undecided_as_the_sheet_requires() -> None:
    assert nvlink5_action(145, "RLW_NEW", 0x3FF, 2) is IGNORE
    assert nvlink5_action(149, "NETIR_NEW", 0x3FF, 2) is None
    assert nvlink5_action(145, "RLW_REMAP", None, None) is None
    assert nvlink5_action(145, "RLW_REMAP", 0x04, None) is None


BITS = [
    (0, {0, 23, 30}, Xid74Meaning.IGNORABLE),
    (0, {1, 20}, Xid74Meaning.SECONDARY),
    (0, {4, 5, 8, 9, 12, 16, 17, 24, 28}, Xid74Meaning.HARDWARE),
    (0, {21, 22, 27, 29}, Xid74Meaning.SIGNAL),
    (2, {0, 1, 2, 6, 13, 16, 19}, Xid74Meaning.HARDWARE),
    (3, {16, 17, 18}, Xid74Meaning.SECONDARY),
    (4, {18, 19, 21, 22, 24, 25, 27, 28}, Xid74Meaning.HARDWARE),
    (4, {20, 23, 26, 29}, Xid74Meaning.SIGNAL),
]


def seven(word: int, bit: int) -> tuple[int, ...]:
    return tuple(1 << bit if each == word else 0 for each in range(7))


@pytest.mark.parametrize("word", range(7))
def test_every_bit_of_the_seven_words_has_its_meaning(word: int) -> None:
    """A bit that nobody documents is taken for a marginal signal: degrades, isolates nobody."""
    listed = {bit: meaning for where, bits, meaning in BITS if where == word for bit in bits}

    for bit in range(32):
        assert xid74_meaning(seven(word, bit)) is listed.get(bit, Xid74Meaning.SIGNAL), bit


def test_the_worst_bit_decides() -> None:
    echo_and_hardware = tuple(a | b for a, b in zip(seven(0, 1), seven(2, 16), strict=True))
    ignorable_and_echo = tuple(a | b for a, b in zip(seven(0, 0), seven(3, 16), strict=True))

    assert xid74_meaning(echo_and_hardware) is Xid74Meaning.HARDWARE
    assert xid74_meaning(ignorable_and_echo) is Xid74Meaning.SECONDARY
    assert xid74_meaning(()) is Xid74Meaning.SIGNAL
