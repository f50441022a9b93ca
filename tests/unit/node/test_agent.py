"""The agent: signals in, snapshots out, with a real store and a clock that the test turns."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import (
    GapReport,
    InventoryReport,
    LinkState,
    OffBusReport,
    Reading,
    ReadStatus,
    Source,
)
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, reading

NAMING = Naming()


def test_the_first_inventory_with_its_readings_is_one_publication(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()

    assert len(world.published) == 1
    assert world.states() == [HealthState.HEALTHY] * 8


def test_a_fatal_xid_isolates_that_gpu_and_leaves_the_siblings_as_they_were(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))

    before, after = (
        pool(snapshot, NAMING, ServiceMode.TAINT).slices[0].devices for snapshot in world.published
    )
    assert [entry.isolated for entry in world.published[-1].gpus] == [index == 3 for index in range(8)]
    assert {device for device in before if "03-00" not in device.name} < set(after)
    assert world.monitor.avoided == [GpuUuid("GPU-3")]


def test_a_burst_and_its_echoes_are_one_publication(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, *(fault(3, code, 1010) for code in (79, 45, 45, 45, 43)))
    world.turn(1011, *(fault(3, 45, 1011) for _ in range(50)))

    assert len(world.published) == 2


def test_eight_gpus_at_once_are_one_publication(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, *(fault(index, 79, 1010) for index in range(8)))

    assert len(world.published) == 2
    assert world.states() == [HealthState.UNHEALTHY] * 8


def test_good_readings_for_an_hour_publish_nothing(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    for at in range(1005, 4600, 5):
        world.turn(at, *(reading(index, at, thermal_margin_celsius=20 + at % 15) for index in range(8)))

    assert len(world.published) == 1


def test_one_lost_gpu_is_one_device_not_eight(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    lost = Reading(source=Source.NVML_POLL, seen=moment(1010), uuid=GpuUuid("GPU-5"), status=ReadStatus.LOST)
    world.turn(1010, lost)

    assert world.states().count(HealthState.UNHEALTHY) == 1


def test_a_signal_of_an_unknown_gpu_touches_nobody(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(99, 79, 1010))

    assert len(world.published) == 1


def test_a_loss_that_names_no_gpu_and_a_gap_have_everything_read_again(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, OffBusReport(source=Source.KMSG, seen=moment(1010), bus_id=None))
    world.turn(1011, GapReport(source=Source.KMSG, seen=moment(1011), lost=12))

    assert world.monitor.polled == [None, None]
    assert world.states() == [HealthState.HEALTHY] * 8


def test_a_fault_of_an_unknown_mig_instance_is_held_against_its_gpu(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, replace(fault(2, 95, 1010), gpu_instance=5))

    assert world.states()[2] is HealthState.UNHEALTHY


def test_a_new_agent_on_the_same_boot_still_knows_the_fault_and_publishes_it_first(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    heir = AgentWorld(tmp_path)
    heir.begin(1020)

    assert heir.states()[3] is HealthState.UNHEALTHY
    assert heir.published[0].gpus == world.published[-1].gpus
    assert heir.published[0].revision > world.published[-1].revision


def test_a_new_boot_lets_clean_readings_disprove_the_fault(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    heir = AgentWorld(tmp_path, boot="boot-2")
    heir.begin(50)

    assert heir.states()[3] is HealthState.DEGRADED
    assert heir.published[-1].gpus[3].verdict.reason == "Probation"


def test_a_gpu_that_is_no_longer_enumerated_is_missing_in_the_report(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    fewer = InventoryReport(
        source=Source.NVML_POLL,
        seen=moment(1010),
        gpus=tuple(gpu(index) for index in range(7)),
        driver_load="570.1",
    )
    world.turn(1010, fewer)

    assert world.published[-1].facts.missing_gpus == ("0000:07:00.0",)
    assert len(world.published[-1].gpus) == 8


def test_blindness_shows_by_itself_after_a_minute(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1061)

    assert world.states() == [HealthState.UNKNOWN] * 8
    assert not any(entry.isolated for entry in world.published[-1].gpus)


def test_the_thread_publishes_what_sources_put_and_stops(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.agent.start()
    inventory = InventoryReport(
        source=Source.NVML_POLL, seen=moment(1000), gpus=(gpu(0),), driver_load="570.1"
    )
    world.agent.queue.put(inventory)
    world.agent.stop(5)

    assert world.agent.tick_age_seconds == 0
    assert (tmp_path / "state.json").exists()


def test_a_fault_that_flaps_every_second_is_at_most_two_publications_a_minute(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    all_up = reading(2, 1000).links
    assert all_up is not None
    for second in range(1, 301):
        links = all_up if second % 2 else (LinkState.INACTIVE, *all_up[1:])
        at = 1000 + second
        world.turn(at, reading(2, at, links=links), *(reading(index, at) for index in range(8) if index != 2))

    assert len(world.published) - 1 <= 10


def test_a_step_of_the_wall_clock_changes_nothing(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    for hours in (1, -1, 24 * 400):
        world.clock.shift = timedelta(hours=hours)
        world.turn(1011, *(reading(index, 1011) for index in range(8) if index != 3))

    assert len(world.published) == 2
    assert world.states()[3] is HealthState.UNHEALTHY


def test_a_machine_that_slept_for_hours_takes_no_gpu_for_unseen(tmp_path: Path) -> None:
    """The boot clock runs on in a suspend, and the agent's loop wakes before any source has looked again."""
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))

    def sleep(patience_seconds: float) -> None:
        world.clock.at += 2 * 3600

    world.agent.queue.wait = sleep  # type: ignore[method-assign]  # a wait in which the machine sleeps
    world.agent.step(1.0)
    assert world.states().count(HealthState.HEALTHY) == 7
    world.turn(1010 + 2 * 3600 + 70)

    assert world.states().count(HealthState.UNKNOWN) == 7
    assert world.states()[3] is HealthState.UNHEALTHY
