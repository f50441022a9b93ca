"""A device that the API server refuses costs neither its siblings' faults nor the news of itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from gpuvitals.inventory.device import Device
from gpuvitals.inventory.pool import Pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals_sim.apiserver.faults import Match
from support.worlds.publisher_world import World, device, pool_for, running

SLICES = Match(resource="resourceslices", verbs=frozenset({"create", "update"}))


@pytest.fixture
def world() -> Iterator[World]:
    with running(spacing_seconds=0.01) as made:
        yield made


@dataclass(frozen=True)
class OddPool:
    """A pool in which `odd` replaces device 5."""

    odd: Device
    failed: tuple[int, ...]

    def pool(self, mode: ServiceMode) -> Pool:
        whole = pool_for(*self.failed).pool(mode)
        (part,) = whole.slices
        devices = tuple(self.odd if each.name == "gpu-5" else each for each in part.devices)
        return replace(whole, slices=(replace(part, devices=devices),))


def with_odd(odd: Device, *failed: int) -> OddPool:
    return OddPool(odd, failed)


def names(world: World) -> list[str]:
    return [each["name"] for part in world.slices() for each in part["spec"]["devices"]]


ODD = [
    pytest.param(replace(device(5), name="GPU_5"), "GPU_5", id="no name"),
    pytest.param(replace(device(5), attributes=(("health/score-now", 1),)), "gpu-5", id="a key that is none"),
    pytest.param(
        replace(device(5), attributes=(("uuid", "x" * 65),)), "gpu-5", id="a value that is too long"
    ),
    pytest.param(
        replace(device(5), attributes=tuple((f"key{number:02}", number) for number in range(33))),
        "gpu-5",
        id="too many keys",
    ),
]


@pytest.mark.parametrize(("odd", "name"), ODD)
def test_an_invalid_device_is_left_out_and_told_and_the_others_are_published(
    world: World, odd: Device, name: str
) -> None:
    """Finding R1: the server names the field, and with it the device."""
    world.publisher.publish(with_odd(odd), 1)
    world.wait(lambda: 1 in world.published)
    assert set(names(world)) == {f"gpu-{index}" for index in range(8) if index != 5}
    assert f"device {name} is not published" in world.publisher.blocked
    assert any(f"device {name} is not published" in told for told in world.refusals)
    assert world.metrics.registry.get_sample_value("gpuvitals_devices_left_out") == 1

    world.publisher.publish(with_odd(odd, 3), 2)
    world.wait(lambda: 2 in world.published)
    assert world.taint_of(names(world).index("gpu-3"))["value"] == "Xid79"

    world.publish(3, 3)
    assert set(names(world)) == {f"gpu-{index}" for index in range(8)}
    assert world.publisher.blocked == ""
    assert world.metrics.registry.get_sample_value("gpuvitals_devices_left_out") == 0


def test_a_refused_device_is_not_sent_again_as_it_is(world: World) -> None:
    """Finding R1."""
    odd = replace(device(5), attributes=(("uuid", "x" * 65),))
    world.publisher.publish(with_odd(odd), 1)
    world.wait(lambda: 1 in world.published)
    before = len(world.writes())
    for revision in range(2, 6):
        world.publisher.publish(with_odd(odd, revision % 4), revision)
        world.wait(lambda revision=revision: revision in world.published)

    assert len(world.writes()) == before + 4


def test_a_refusal_that_names_no_field_is_laid_on_the_device_that_changed(world: World) -> None:
    """Finding R1: a policy of the cluster denies one device's change and names no field."""
    world.publish(1)
    world.server.faults.fail(422, times=1, match=SLICES)
    world.publisher.publish(pool_for(6), 2)
    world.wait(lambda: 2 in world.published)
    assert set(names(world)) == {f"gpu-{index}" for index in range(8)} - {"gpu-6"}
    assert "device gpu-6 is not published" in world.publisher.blocked

    world.publish(3, 3, 6)
    assert world.taint_of(names(world).index("gpu-3"))["value"] == "Xid79"
    assert "gpu-6" not in names(world)
    world.publish(4, 3)
    assert set(names(world)) == {f"gpu-{index}" for index in range(8)}
