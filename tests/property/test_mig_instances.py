"""MIG under a running agent: instances come and go and fail in any order, and no device but those concerned moves.

The real agent and the real projection; only the driver's lists, the log's lines and the claims are made up.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gpuvitals.inventory.device import Device, device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import InventoryReport, Source
from support.long_runs import share
from support.mig_instances import in_mig_mode, instance
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, reading

GPUS = 3
MIG_ENABLED = (1, 2)
NUMBERS = (7, 8)
GONE = "MigInstanceGone"

divided_gpus = st.sampled_from(MIG_ENABLED)
numbers = st.sampled_from(NUMBERS)
contained_codes = st.sampled_from([13, 31, 43, 45, 63, 94, 95])
any_codes = st.sampled_from([13, 31, 48, 63, 79, 94, 95, 119])
Place = tuple[int, int]
PLACES: list[Place] = [(index, number) for index in MIG_ENABLED for number in NUMBERS]


class Node(RuleBasedStateMachine):
    """Three GPUs, two of them in MIG mode. `listed` are the driver's instances, `held` those that claims hold."""

    waited = gone = 0

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="gv-mig-")
        self.world = AgentWorld(Path(self._folder.name), gpus=GPUS)
        self.world.role.is_publisher = False  # nothing is written to disk: the memory has tests of its own
        self.listed: dict[Place, GpuUuid] = {}
        self.held: dict[GpuUuid, Place] = {}
        self.at = 1000.0
        self.made = 0
        self.owners: dict[str, GpuUuid] = {}

    def teardown(self) -> None:
        self._folder.cleanup()

    @initialize(held=st.sets(st.sampled_from(PLACES)))
    def begin(self, held: set[Place]) -> None:
        """Every place is taken, and claims hold some of the instances."""
        self.listed = {(index, number): GpuUuid(f"MIG-{index}-{number}-0") for index, number in PLACES}
        self.held = {self.listed[place]: place for place in held}
        self._turn(self._inventory())

    @rule(index=divided_gpus, number=numbers, anew=st.booleans())
    def create(self, index: int, number: int, anew: bool) -> None:
        """An instance is made, as the one that was there before or as another piece of hardware."""
        if (index, number) in self.listed:
            return
        self.made += anew
        uuid = GpuUuid(f"MIG-{index}-{number}-{self.made if anew else 0}")
        self.listed[index, number] = uuid
        self._moves_only({self._name(index, number)}, lambda: self._turn(self._inventory()))

    @precondition(lambda self: self.listed)
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.listed)))
        del self.listed[place]
        self._moves_only({self._name(*place)}, lambda: self._turn(self._inventory()))

    @rule(index=divided_gpus)
    def divide_anew(self, index: int) -> None:
        """Between two surveys every instance of a GPU became another one."""
        places = [place for place in self.listed if place[0] == index]
        self.made += 1
        self.listed |= {place: GpuUuid(f"MIG-{index}-{place[1]}-{self.made}") for place in places}
        self._moves_only({self._name(*place) for place in places}, lambda: self._turn(self._inventory()))

    @precondition(lambda self: self.listed)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        """A claim is prepared with an instance that is shown."""
        place = data.draw(st.sampled_from(sorted(self.listed)))
        if self.listed[place] in self._uuids():
            self.held[self.listed[place]] = place
        self._moves_only(set(), self._turn)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        uuid = data.draw(st.sampled_from(sorted(self.held)))
        place = self.held.pop(uuid)
        self._moves_only({self._name(*place)}, self._turn)

    @rule(index=st.integers(0, GPUS - 1), code=any_codes)
    def whole_gpu_fails(self, index: int, code: int) -> None:
        mine = {name for name in self._devices() if name.startswith(device_name(gpu(index)))}
        self._moves_only(mine, lambda: self._turn(faults=((index, None, code),)))

    @rule(index=divided_gpus, number=numbers, code=contained_codes)
    def one_instance_fails(self, index: int, number: int, code: int) -> None:
        self._moves_only({self._name(index, number)}, lambda: self._turn(faults=((index, number, code),)))

    @invariant()
    def what_is_shown_is_what_there_is_and_what_is_held(self) -> None:
        if not self.world.published:
            return
        uuids = self._uuids()
        waiting = {
            uuid
            for place, uuid in self.listed.items()
            if any(other != uuid and where == place for other, where in self.held.items())
        }
        wholes = {gpu(index).uuid for index in range(GPUS)}
        assert uuids == wholes | (set(self.listed.values()) - waiting) | self.held.keys()
        reasons = {entry.gpu.uuid: entry.verdict.reason for entry in self.world.published[-1].gpus}
        gone = self.held.keys() - set(self.listed.values())
        Node.waited += bool(waiting)
        Node.gone += bool(gone)
        assert {uuid for uuid, reason in reasons.items() if reason == GONE} == gone

    @invariant()
    def a_name_stays_with_its_instance_for_as_long_as_a_claim_holds_it(self) -> None:
        if not self.world.published:
            return
        shown = [entry.gpu for entry in self.world.published[-1].gpus if not entry.gpu.mig_enabled]
        names = {device_name(each): each.uuid for each in shown}
        assert len(names) == len(shown) == len(self._devices())
        for uuid, place in self.held.items():
            assert names[self._name(*place)] == uuid

    def _name(self, index: int, number: int) -> str:
        return device_name(instance(index, number))

    def _uuids(self) -> set[GpuUuid]:
        return {entry.gpu.uuid for entry in self.world.published[-1].gpus}

    def _inventory(self) -> InventoryReport:
        found: list[Gpu] = []
        for index in range(GPUS):
            found.append(in_mig_mode(index) if index in MIG_ENABLED else gpu(index))
            found += [
                instance(index, number, uuid=self.listed[place, number])
                for place, number in sorted(self.listed)
                if place == index
            ]
        return InventoryReport(
            source=Source.NVML_POLL, seen=moment(self.at), gpus=tuple(found), driver_load="570.1"
        )

    def _turn(
        self, report: InventoryReport | None = None, faults: tuple[tuple[int, int | None, int], ...] = ()
    ) -> None:
        """A quarter of a second passes, and every GPU reads well."""
        self.at += 0.25
        self.world.devices.by_device = {uuid: (f"claim-{uuid}",) for uuid in self.held}
        lines = [replace(fault(index, code, self.at), gpu_instance=number) for index, number, code in faults]
        readings = [reading(index, self.at) for index in range(GPUS)]
        self.world.turn(self.at, *([report] if report else []), *readings, *lines)

    def _devices(self) -> dict[str, Device]:
        snapshot = self.world.published[-1]
        slices = pool(snapshot, Naming(), ServiceMode.TAINT).slices
        return {device.name: device for part in slices for device in part.devices}

    def _moves_only(self, affected_gpus: set[str], act: Callable[[], None]) -> None:
        before = self._devices()
        act()
        after = self._devices()
        assert {name: each for name, each in before.items() if name not in affected_gpus} == {
            name: each for name, each in after.items() if name not in affected_gpus
        }


def test_no_device_moves_but_those_that_are_concerned() -> None:
    """The counts keep the machine honest: instances are destroyed under claims, and others wait for their names."""
    Node.waited = Node.gone = 0
    run_state_machine_as_test(Node, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))

    assert Node.gone > 20
    assert Node.waited > 2


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_device_moves_but_those_that_are_concerned_at_length() -> None:
    run_state_machine_as_test(
        Node, settings=settings(max_examples=share(2000), stateful_step_count=40, deadline=None)
    )
