"""Names of devices: DNS labels by slot, profile and placement, and never one name for two pieces of silicon."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.inventory.device import device_name, silicon
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid, PciBusId
from support.worlds.snapshots import gpu

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PROFILES = [
    "1g.5gb", "1g.5gb+me", "1g.10gb", "1g.10gb+me", "1g.12gb+me.all", "1g.24gb+gfx", "1g.24gb-me", "1g.24gb+me",
    "2g.20gb", "3g.40gb", "1c.3g.40gb", "2c.3g.40gb", "4g.40gb", "7g.80gb", "1c.7g.80gb", "",
]  # fmt: skip


def instance(
    profile: str, placement: int | None, compute: int | None = None, ids: tuple[int, int] = (7, 0)
) -> Gpu:
    mig = MigInstance(
        parent=GpuUuid("GPU-0"),
        profile=profile,
        gpu_instance=ids[0],
        compute_instance=ids[1],
        placement=placement,
        compute_placement=compute,
    )
    return replace(gpu(0), bus_id=PciBusId("0000:3b:00.0"), kind=DeviceKind.MIG, mig=mig)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (instance("1g.10gb", 2), "gpu-0000-3b-00-0-mig-1g-10gb-2"),
        (instance("3g.40gb", 4, 0), "gpu-0000-3b-00-0-mig-3g-40gb-4"),
        (instance("1c.3g.40gb", 4, 1), "gpu-0000-3b-00-0-mig-1c-3g-40gb-4-1"),
        (instance("1c.3g.40gb", 4, None, (1, 2)), "gpu-0000-3b-00-0-mig-1c-3g-40gb-4-ci2"),
        (instance("1g.10gb+me", 0), "gpu-0000-3b-00-0-mig-1g-10gb-plus-me-0"),
        (instance("1g.10gb", None, None, (9, 0)), "gpu-0000-3b-00-0-mig-1g-10gb-gi9-ci0"),
        (instance("", None, None, (9, 0)), "gpu-0000-3b-00-0-mig-unknown-gi9-ci0"),
    ],
)
def test_an_instance_is_named_by_slot_profile_and_placement(device: Gpu, name: str) -> None:
    """Finding P3."""
    assert device_name(device) == name
    assert silicon(name) == "gpu-0000-3b-00-0"


placements = st.one_of(st.none(), st.integers(0, 255))


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.sampled_from(PROFILES), st.text(max_size=32)), placements, placements)
def test_every_name_is_a_label_of_its_gpu(profile: str, placement: int | None, compute: int | None) -> None:
    """Findings R1 and P3: whatever the driver calls a profile."""
    name = device_name(instance(profile, placement, compute))

    assert LABEL.fullmatch(name)
    assert silicon(name) == "gpu-0000-3b-00-0"


def test_different_profiles_and_places_have_different_names() -> None:
    """Finding P3."""
    devices = [
        instance(profile, placement, compute)
        for profile in PROFILES
        for placement in (0, 1, 4, None)
        for compute in ((0, 1) if profile[1:2] == "c" and placement is not None else (None,))
    ]

    assert len({device_name(each) for each in devices}) == len(devices)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=32), st.text(max_size=32))
def test_two_profiles_never_share_a_name(one: str, other: str) -> None:
    """Finding P3."""
    same = device_name(instance(one, 0, 0)) == device_name(instance(other, 0, 0))

    assert same == (one == other)
