"""A kill at any write of the memory loses nothing published, and the next agent ends as an uninterrupted one does."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import GpuSignal, InitFailureReport, OffBusReport, Signal, Source
from gpuvitals.node.state_store import StateStore
from support.long_runs import share
from support.signals import START, asks, identity, moment, xid
from support.worlds.agent_world import AgentWorld, inventory, reading

GPUS = 3
STEPS = st.sampled_from([0.0, 0.5, 4.0, 31.0])
"""Seconds from one turn to the next: an idle agent saves its whole memory after 30 s."""


@dataclass(frozen=True)
class Turn:
    """The records that the kernel logged until a turn of the agent; the last of them has the sequence `read_to`."""

    at: float
    records: tuple[GpuSignal, ...]
    read_to: int


class Killed(BaseException):
    """The process ended here."""


@st.composite
def records(draw: st.DrawFn, at: float) -> GpuSignal:
    """One line of the kernel log about one GPU."""
    index = draw(st.integers(0, GPUS - 1))
    bus_id = PciBusId(f"0000:{index:02x}:00.0")
    match draw(st.integers(0, 9)):
        case 0:
            return OffBusReport(source=Source.KMSG, seen=moment(at), bus_id=bus_id)
        case 1:
            return InitFailureReport(source=Source.KMSG, seen=moment(at), bus_id=bus_id)
        case 2:
            return replace(asks(draw(st.integers(0, 4)), at), bus_id=bus_id)
        case 3:
            return replace(identity(at), bus_id=bus_id, uuid=GpuUuid(f"GPU-{index}"))
        case _:
            code = draw(st.sampled_from([13, 43, 48, 63, 74, 79, 94, 95, 119, 144]))
            return replace(xid(code, at), bus_id=bus_id)


@st.composite
def histories(draw: st.DrawFn) -> list[Turn]:
    """The turns of an agent; in some of them the log has nothing new."""
    at, sequence, turns = START + 1, 0, list[Turn]()
    for step in draw(st.lists(STEPS, min_size=1, max_size=8)):
        at += step
        logged = tuple(draw(st.lists(records(at), max_size=3)))
        sequence += len(logged)
        turns.append(Turn(at, logged, sequence))
    return turns


@contextmanager
def killed_at(number: int, *, before: bool) -> Iterator[None]:
    """Ends the process before its write `number` to a file, or after its flush `number`.

    Flushes themselves do nothing here: a killed process, unlike a power cut, leaves the kernel's cache whole.
    """
    real = {name: getattr(os, name) for name in ("write", "pwrite", "fsync", "fdatasync")}
    count = 0

    def write(name: str) -> Callable[..., object]:
        def call(*args: object) -> object:
            nonlocal count
            count += before
            if before and count == number:
                raise Killed
            return real[name](*args)

        return call

    def flush(file: int) -> None:
        nonlocal count
        count += not before
        if not before and count == number:
            raise Killed

    os.write, os.pwrite = write("write"), write("pwrite")  # type: ignore[assignment] # put back below
    os.fsync = os.fdatasync = flush  # type: ignore[assignment] # put back below
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def turn(world: AgentWorld, at: float, signals: tuple[Signal, ...], read_to: int) -> None:
    """The agent takes log records, and a poll just before them in which every GPU reads good.

    A poll at their very instant would settle some of them, and readings are not part of the journal.
    """
    world.clock.at = at
    polled = (reading(index, at - 0.1) for index in range(GPUS))
    world.agent.turn([*signals, *polled], read_to)


def begun(folder: Path, *, saves: bool) -> AgentWorld:
    world = AgentWorld(folder, gpus=GPUS)
    world.publishing = saves
    turn(world, START, (inventory(START, GPUS),), 0)
    return world


def end_of(world: AgentWorld, at: float) -> list[object]:
    """Everything about each GPU that does not depend on the moment of a restart."""
    turn(world, at, (), 10**6)
    shown = {entry.gpu.uuid: entry for entry in world.published[-1].gpus}
    return [
        (
            entry.gpu.uuid,
            shown[entry.gpu.uuid].verdict.state,
            shown[entry.gpu.uuid].verdict.reason,
            shown[entry.gpu.uuid].isolated,
            [(fault.rule.reason, fault.standing, fault.detail) for fault in entry.state.faults],
            sorted((record.code, record.resolved, record.last_at) for record in entry.state.xids),
        )
        for entry in world.agent.gpus
    ]


def check(history: list[Turn], number: int, *, before: bool) -> None:
    with (
        tempfile.TemporaryDirectory() as whole,
        tempfile.TemporaryDirectory() as cut,
        killed_at(0, before=True),
    ):
        world = begun(Path(whole), saves=False)
        for each in history:
            turn(world, each.at, each.records, each.read_to)
        expected = end_of(world, history[-1].at + 1)

        doomed = begun(Path(cut), saves=True)
        done = 0
        try:
            with killed_at(number, before=before):
                for each in history:
                    turn(doomed, each.at, each.records, each.read_to)
                    done += 1
        except Killed:
            pass
        heir = heir_of(Path(cut), doomed, history[: done + 1])
        for each in history[done + 1 :]:
            turn(heir, each.at, each.records, each.read_to)
        assert end_of(heir, history[-1].at + 1) == expected


def heir_of(folder: Path, doomed: AgentWorld, until: list[Turn]) -> AgentWorld:
    """The next agent: it remembers everything that was published, and reads the log from its position on."""
    stored = StateStore(folder / "state.json").load().node
    assert stored is not None
    published = {entry.gpu.uuid: (entry.verdict, entry.isolated) for entry in doomed.published[-1].gpus}
    remembered = {entry.gpu.uuid: (entry.published, entry.isolated) for entry in stored.gpus}
    if stored.revision == doomed.published[-1].revision:
        assert remembered == published
    else:
        assert stored.revision == doomed.published[-1].revision + 1, "published and not durable"
    heir = AgentWorld(folder, gpus=GPUS)
    logged = [record for each in until for record in each.records]
    at = until[-1].at
    again = tuple(logged[stored.kmsg_sequence or 0 :])
    turn(heir, at, (inventory(at, GPUS), *again), until[-1].read_to)
    return heir


@given(histories(), st.integers(1, 6), st.booleans())
@settings(max_examples=500)
def test_a_kill_at_any_write_equals_the_uninterrupted_fold(
    history: list[Turn], number: int, before: bool
) -> None:
    check(history, number, before=before)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(histories(), st.integers(1, 6), st.booleans())
@settings(max_examples=share(10_000))
def test_a_kill_at_any_write_equals_the_uninterrupted_fold_ten_thousand_times(
    history: list[Turn], number: int, before: bool
) -> None:
    check(history, number, before=before)
