"""One owner a slot: which of the GPUs that were ever seen is in a slot now, and which are history."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.inventory.identity import MAX_RETIRED, SlotOwners, slot_owners
from gpuvitals.model.ids import GpuUuid, PciBusId

SLOTS = [PciBusId(f"0000:{index:02x}:00.0") for index in range(5)]
UUIDS = [GpuUuid(f"GPU-{letter}") for letter in "abcdefgh"]

placements = st.lists(st.tuples(st.sampled_from(SLOTS), st.sampled_from(UUIDS)), max_size=6)
lives = st.lists(placements, min_size=1, max_size=12)


def owned(**slots: str) -> dict[PciBusId, GpuUuid]:
    """`s1="a"` is GPU-a in slot 1."""
    return {SLOTS[int(name[1:])]: GpuUuid(f"GPU-{letter}") for name, letter in slots.items()}


def listed(**slots: str) -> list[tuple[PciBusId, GpuUuid]]:
    return list(owned(**slots).items())


def after(*inventories: list[tuple[PciBusId, GpuUuid]]) -> SlotOwners:
    owners = SlotOwners()
    for enumerated in inventories:
        owners = slot_owners(owners, enumerated)
    return owners


@pytest.mark.parametrize(
    ("inventories", "owners", "retired"),
    [
        pytest.param([listed(s0="a", s1="b")], owned(s0="a", s1="b"), (), id="first inventory"),
        pytest.param(
            [listed(s0="a", s1="b"), listed(s0="a")],
            owned(s0="a", s1="b"),
            (),
            id="a dead board keeps its slot",
        ),
        pytest.param(
            [listed(s0="a", s1="b"), listed(s0="a", s1="c")],
            owned(s0="a", s1="c"),
            ("b",),
            id="a board is replaced",
        ),
        pytest.param(
            [listed(s0="a"), listed(s0="b"), listed(s0="a")],
            owned(s0="a"),
            ("b",),
            id="the old board is put back",
        ),
        pytest.param(
            [listed(s0="a", s1="b"), listed(s0="b", s1="a")], owned(s0="b", s1="a"), (), id="two boards swap"
        ),
        pytest.param(
            [listed(s0="a", s1="b", s2="c", s3="d"), listed(s0="a", s1="c", s2="d")],
            owned(s0="a", s1="c", s2="d"),
            ("b",),
            id="the bus is renumbered round a dead board",
        ),
        pytest.param(
            [listed(s0="a", s1="b"), listed(s0="c", s1="d")],
            owned(s0="c", s1="d"),
            ("a", "b"),
            id="all boards are new",
        ),
        pytest.param(
            [listed(s0="a", s1="b"), listed(s2="a")],
            owned(s1="b", s2="a"),
            (),
            id="a board moves to a free slot",
        ),
        pytest.param([listed(s0="a"), []], owned(s0="a"), (), id="the driver lists none"),
        pytest.param(
            [listed(s0="b"), [(SLOTS[0], UUIDS[0]), (SLOTS[0], UUIDS[1])]],
            owned(s0="b"),
            ("a",),
            id="two in one slot",
        ),
        pytest.param(
            [listed(s1="a"), [(SLOTS[0], UUIDS[0]), (SLOTS[1], UUIDS[0])]],
            owned(s1="a"),
            (),
            id="one in two slots",
        ),
    ],
)
def test_the_gpu_enumerated_last_owns_the_slot(
    inventories: list[list[tuple[PciBusId, GpuUuid]]],
    owners: dict[PciBusId, GpuUuid],
    retired: tuple[str, ...],
) -> None:
    """Finding R1."""
    found = after(*inventories)

    assert dict(found.owners) == owners
    assert found.retired == tuple(f"GPU-{letter}" for letter in retired)


@settings(max_examples=500, deadline=None)
@given(lives)
def test_a_slot_has_one_owner_and_an_owner_one_slot(
    inventories: list[list[tuple[PciBusId, GpuUuid]]],
) -> None:
    """Findings R1 and N1, whatever the driver lists, contradictions included."""
    before = SlotOwners()
    met: set[GpuUuid] = set()
    for enumerated in inventories:
        found = slot_owners(before, enumerated)
        met |= {uuid for _, uuid in enumerated}
        seated = list(found.owners.values())
        assert len(set(seated)) == len(seated)
        assert set(seated).isdisjoint(found.retired)
        assert {*seated, *found.retired} == met, "nobody is lost within the bound"
        for slot in {slot for slot, _ in enumerated}:
            here = {uuid for where, uuid in enumerated if where == slot}
            elsewhere = {uuid for uuid in here if uuid in seated}
            assert found.owners.get(slot) in here or elsewhere == here, "an enumerated GPU takes its slot"
        assert slot_owners(found, enumerated) == found, "the same list changes nothing"
        assert slot_owners(before, list(reversed(enumerated))) == found, (
            "the order of the list decides nothing"
        )
        before = found


def test_the_retired_are_bounded_and_the_oldest_go_first() -> None:
    """Finding R15."""
    owners = SlotOwners()
    for number in range(MAX_RETIRED + 10):
        owners = slot_owners(owners, [(SLOTS[0], GpuUuid(f"GPU-{number:03}"))])

    assert len(owners.retired) == MAX_RETIRED
    assert owners.retired[0] == "GPU-009"
    assert owners.retired[-1] == f"GPU-{MAX_RETIRED + 8:03}"
