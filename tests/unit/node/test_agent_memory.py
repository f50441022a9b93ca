"""Every fault is on disk or read again from the kernel log, and the next agent goes on from there."""

from dataclasses import replace
from pathlib import Path

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import InventoryReport, MonitorReport, MonitorState, Signal, Source
from gpuvitals.node.state_store import StateStore
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, inventory, lost, monitor, reading


def read_to(folder: Path) -> int | None:
    stored = StateStore(folder / "state.json").load().node
    assert stored is not None
    return stored.kmsg_sequence


def test_a_record_read_while_signals_are_taken_is_not_counted_as_folded(tmp_path: Path) -> None:
    """The log may be read further between the taking of the signals and the save: the save must not cover that record."""
    world = AgentWorld(tmp_path)
    world.begin()
    world.read_log_to(20)
    world.agent.queue.put(fault(3, 79, 1010))
    world.clock.at = 1010

    def take() -> list[Signal]:
        taken = original()
        world.read_log_to(21)
        world.agent.queue.put(fault(4, 79, 1010))
        return taken

    original, world.agent.queue.take = world.agent.queue.take, take  # type: ignore[method-assign]
    world.agent.step(0.0)

    assert world.states().count(HealthState.UNHEALTHY) == 1
    assert read_to(tmp_path) == 20


def test_a_fault_from_before_the_first_inventory_is_kept(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.read_log_to(5)
    world.agent.queue.put(fault(3, 79, 1000))
    world.agent.step(0.0)
    world.agent.start()
    world.agent.stop(5)
    assert world.published == []
    assert read_to(tmp_path) is None

    healthy = (reading(index, 1002) for index in range(8) if index != 3)
    world.turn(1002, inventory(1002), *healthy, lost(3, 1002))

    assert world.states()[3] is HealthState.UNHEALTHY
    assert world.published[-1].gpus[3].verdict.last_xid == 79


def test_a_fault_of_no_known_gpu_is_reported_after_the_first_inventory(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.turn(1000, fault(99, 79, 1000))
    assert world.events == []
    world.begin(1001)

    assert [entry.reason for entry in world.events] == ["UnattributedFault"]
    assert "0000:63:00.0" in world.events[0].message


def test_the_first_snapshot_waits_for_the_driver_and_a_reading_of_each_gpu(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.turn(1000, monitor(Source.KMSG), monitor(Source.SYSFS))
    world.turn(1001, inventory(1001), reading(0, 1001))
    assert world.published == []
    world.turn(1002, *(reading(index, 1002) for index in range(1, 8)))

    assert len(world.published) == 1
    assert world.states() == [HealthState.HEALTHY] * 8


def test_a_silent_gpu_delays_the_first_snapshot_by_five_seconds(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.turn(1001, inventory(1001), *(reading(index, 1001) for index in range(7)))
    world.turn(1005.9)
    assert world.published == []
    world.turn(1006)

    assert world.states() == [HealthState.HEALTHY] * 7 + [HealthState.UNKNOWN]


def test_an_absent_driver_is_published_at_once_as_a_node_without_devices(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.turn(
        1000, replace(monitor(Source.NVML_POLL), state=MonitorState.DRIVER_ABSENT, detail="not loaded")
    )

    assert [snapshot.gpus for snapshot in world.published] == [()]
    assert [entry.reason for entry in world.events] == ["MonitorBlind"]


def test_a_restart_on_the_same_boot_publishes_the_same_pool_before_any_signal(
    tmp_path: Path,
) -> None:
    """A restart of the agent must cost no write of a slice."""
    world = AgentWorld(tmp_path)
    sources = (Source.KMSG, Source.SYSFS, Source.NVML_POLL)
    world.turn(1000, *map(monitor, sources), inventory(1000), *(reading(index, 1000) for index in range(8)))
    fewer = InventoryReport(
        source=Source.NVML_POLL, seen=moment(1005), gpus=tuple(gpu(i) for i in range(7)), driver_load="570.1"
    )
    world.turn(1005, fault(3, 79, 1005), fewer)
    heir = AgentWorld(tmp_path)
    heir.turn(1010)
    heir.turn(1011, *map(monitor, sources), fewer, *(reading(index, 1011) for index in (0, 1, 2, 4, 5, 6)))

    shown = {
        pool(snapshot, Naming(), ServiceMode.TAINT).slices
        for snapshot in (world.published[-1], *heir.published)
    }
    assert len(shown) == 1
    assert heir.events == []


def test_a_position_of_another_boot_is_not_taken_over(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.read_log_to(500)
    world.begin()
    world.agent.queue.put(fault(3, 79, 1010))
    world.agent.step(0.0)
    assert read_to(tmp_path) == 500
    heir = AgentWorld(tmp_path, boot="boot-2")
    heir.begin(50)

    assert read_to(tmp_path) is None


def test_only_a_new_fault_counts_as_pending_and_old_records_date_from_the_start(
    tmp_path: Path,
) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 200), reading(3, 1010, recovery_action=1))
    world.turn(1020, fault(4, 79, 1019.5))

    assert world.observed == [None, 1000.0, 1019.5]


def test_a_change_that_is_not_worth_a_write_is_counted_once(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    for at in range(1001, 1031):
        world.turn(at, reading(0, at, ecc_uncorrected_aggregate=0, thermal_margin_celsius=None))

    counted = world.metrics.registry.get_sample_value("gpuvitals_slice_writes_suppressed_total")
    assert counted == 1
    assert len(world.published) == 1


def test_each_transition_is_one_event_with_advice(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    world.turn(1011, fault(3, 79, 1011))

    (told,) = world.events
    assert (told.reason, told.gpu, told.warning) == ("GpuUnhealthy", gpu(3).uuid, True)
    assert "0000:03:00.0" in told.message
    assert "XID 79" in told.message
    assert "a reset, a reboot or an operator clears it" in told.message


def test_a_monitor_that_fails_and_recovers_is_two_events(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    blind = MonitorReport(
        source=Source.KMSG, seen=moment(1001), state=MonitorState.UNREADABLE, detail="Permission denied"
    )
    world.turn(1001, blind)
    world.turn(1002, blind, monitor(Source.KMSG))

    assert [(entry.reason, entry.warning) for entry in world.events] == [
        ("MonitorBlind", True),
        ("MonitorWatching", False),
    ]
    assert "Permission denied" in world.events[0].message


def test_a_signal_that_the_fold_rejects_stops_neither_the_loop_nor_other_signals(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    poison = replace(reading(1, 1010), links=5)  # type: ignore[arg-type]  # no source puts such a signal
    world.turn(1010, poison, fault(3, 79, 1010))

    assert [index for index, state in enumerate(world.states()) if state is HealthState.UNHEALTHY] == [3]
    assert "SignalNotJudged" in [entry.reason for entry in world.events]
    failed = {"source": "nvml-poll", "kind": "Reading", "verdict": "failed"}
    assert world.metrics.registry.get_sample_value("gpuvitals_signals_total", failed) == 1


def test_an_agent_that_does_not_publish_leaves_the_memory_to_the_one_that_does(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    before = (tmp_path / "state.json").read_bytes()
    world.role.is_publisher = False
    world.turn(1010, fault(3, 79, 1010))
    assert (tmp_path / "state.json").read_bytes() == before
    world.role.is_publisher = True
    world.turn(1041)

    stored = StateStore(tmp_path / "state.json").load().node
    assert stored is not None
    assert [entry.isolated for entry in stored.gpus] == [index == 3 for index in range(8)]
