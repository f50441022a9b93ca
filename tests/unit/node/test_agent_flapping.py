"""Flapping faults: whatever turns bad and good every second is at most two publications a minute, and no better until it is quiet."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.model.signal import (
    ConfigSpace,
    LinkState,
    PresenceReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Signal,
    Source,
    XidReport,
)
from support.worlds.agent_world import AgentWorld, gpu, reading

FLAPPING = 2
MINUTES = 5
Turn = Callable[[float, bool], list[Signal]]


"""For as long it flaps."""


def of(signal: Reading) -> list[Signal]:
    return [signal]


def one_link(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    assert good.links is not None
    return of(replace(good, links=(LinkState.INACTIVE, *good.links[1:])) if bad else good)


def most_links(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    assert good.links is not None
    return of(replace(good, links=(LinkState.INACTIVE,) * len(good.links)) if bad else good)


def slowdown(at: float, bad: bool) -> list[Signal]:
    return of(reading(FLAPPING, at, hardware_slowdown=bad))


def recovery_action(at: float, bad: bool) -> list[Signal]:
    return of(reading(FLAPPING, at, recovery_action=int(bad)))


def lost(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    return of(replace(good, status=ReadStatus.LOST) if bad else good)


def hung(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    return of(replace(good, status=ReadStatus.HUNG) if bad else good)


def reset_required(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    return of(replace(good, status=ReadStatus.RESET_REQUIRED) if bad else good)


def off_the_bus(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    bus_id, seen = gpu(FLAPPING).bus_id, good.seen
    space = ConfigSpace.ALL_ONES if bad else ConfigSpace.ANSWERS
    return [
        PresenceReport(source=Source.SYSFS, seen=seen, bus_id=bus_id, present=True, config_space=space),
        good,
    ]


def xid_154(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    numbers = (0, 1) if bad else (1, 0)
    bus_id = gpu(FLAPPING).bus_id
    report = RecoveryActionReport(
        source=Source.KMSG, seen=good.seen, bus_id=bus_id, action_from=numbers[0], action_to=numbers[1]
    )
    return [report, good]


def xid_94(at: float, bad: bool) -> list[Signal]:
    good = reading(FLAPPING, at)
    report = XidReport(source=Source.KMSG, seen=good.seen, bus_id=gpu(FLAPPING).bus_id, code=94)
    return [report, good] if bad else [good]


FLAPS: list[Turn] = [
    one_link,
    most_links,
    slowdown,
    recovery_action,
    lost,
    hung,
    reset_required,
    off_the_bus,
    xid_154,
    xid_94,
]


@pytest.mark.parametrize("flap", FLAPS, ids=lambda flap: flap.__name__)
def test_what_flaps_every_second_is_few_writes_and_no_rise_until_it_is_quiet(
    tmp_path: Path, flap: Turn
) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    written: list[int] = []
    for second in range(1, 60 * MINUTES + 1):
        before, at = len(world.published), 1000.0 + second
        siblings = [reading(index, at) for index in range(8) if index != FLAPPING and not second % 5]
        world.turn(at, *flap(at, bool(second % 2)), *siblings)
        written += [second] * (len(world.published) - before)

    scores = [snapshot.gpus[FLAPPING].verdict.score for snapshot in world.published]
    assert max(sum(start <= each < start + 60 for each in written) for start in range(60 * MINUTES)) <= 2
    assert scores == sorted(scores, reverse=True)
    assert len(scores) > 1
    assert not any(
        entry.isolated for entry in world.published[-1].gpus if entry.gpu.uuid != gpu(FLAPPING).uuid
    )
