"""A published change is in the journal before it is published, and each kind of damage has its outcome."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from subprocess import run

import pytest

from gpuvitals.durable import DurableFile
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.health.state import GpuState
from gpuvitals.journal import Journal
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import BootId, GpuUuid
from gpuvitals.node.lasting import READ_AGAIN
from gpuvitals.node.state_store import Memory, NodeRecord, StateStore
from support.files import no_file_larger_than
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, inventory, reading
from support.worlds.memory_world import GPUS, gpu_record, small_store

BLOCK = 4096
_ROOT = Path(__file__).parents[3]


def node(number: int, **changes: object) -> NodeRecord:
    """The memory after change `number`: since change 1, GPU `number % 3` was published at 1000 + `number`."""
    gpus = [gpu_record(index) for index in range(GPUS)]
    for each in range(1, number + 1):
        gpus[each % GPUS] = replace(gpus[each % GPUS], published_at=1000.0 + each)
    values: dict[str, object] = {"boot_id": BootId("boot-1"), "saved": moment(1000.0 + number), **changes}
    return NodeRecord(
        driver_load="570.1",
        revision=number,
        gpus=tuple(gpus),
        kmsg_sequence=100 + number,
        **values,  # type: ignore[arg-type] # the fields named above
    )


def stored(folder: Path, last: int) -> StateStore:
    """A store with change 0 in the snapshot and changes 1 to `last` in the journal."""
    store = small_store(folder, records=8)
    store.load()
    store.save(node(0))
    store.make_room()
    for number in range(1, last + 1):
        store.record(node(number))
    return store


def memory(folder: Path) -> Memory:
    return StateStore(folder / "state.json").load()


def found(folder: Path) -> NodeRecord:
    loaded = memory(folder).node
    assert loaded is not None
    return replace(loaded, sequence=0)


def spoil(folder: Path, record: int) -> None:
    """Changes one byte of the payload of a record."""
    path = folder / "state.journal"
    body = bytearray(path.read_bytes())
    body[record * BLOCK + 200] ^= 1
    path.write_bytes(body)


def test_a_record_lists_only_the_gpus_that_changed_and_the_snapshot_stays(tmp_path: Path) -> None:
    store = stored(tmp_path, 0)
    before = [path.read_bytes() for path in sorted(tmp_path.glob("state.json*"))]
    store.record(node(1))
    (record,) = Journal(tmp_path / "state.journal").load().records

    assert [each["gpu"]["uuid"] for each in json.loads(record.payload)["node"]["gpus"]] == ["GPU-1"]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("state.json*"))] == before
    assert found(tmp_path) == node(1)


def test_snapshot_and_journal_give_the_newest_memory(tmp_path: Path) -> None:
    stored(tmp_path, 5)
    loaded = memory(tmp_path)

    assert found(tmp_path) == node(5)
    assert (loaded.trouble, loaded.is_complete, loaded.is_older) == ("", True, False)
    assert loaded.remembered == {"GPU-0", "GPU-1", "GPU-2"}


def test_a_poll_alone_is_no_lasting_change(tmp_path: Path) -> None:
    """Readings change at every poll and are read again after a restart."""
    store = stored(tmp_path, 0)
    polled = [
        replace(entry, state=replace(entry.state, reading=reading(index, 1001.0), last_ok_at=1001.0))
        for index, entry in enumerate(node(1).gpus)
    ]
    store.record(replace(node(1), gpus=tuple(polled)))
    (record,) = Journal(tmp_path / "state.journal").load().records

    assert [each["gpu"]["uuid"] for each in json.loads(record.payload)["node"]["gpus"]] == ["GPU-1"]


def test_a_gpu_that_came_or_went_is_saved_in_a_snapshot(tmp_path: Path) -> None:
    store = stored(tmp_path, 0)
    fewer = replace(node(1), gpus=node(1).gpus[:2])
    store.record(fewer)

    assert Journal(tmp_path / "state.journal").load().records == ()
    assert found(tmp_path) == fewer


def test_a_full_journal_is_compacted_into_the_snapshot(tmp_path: Path) -> None:
    store = stored(tmp_path, 8)
    store.record(node(9))
    assert found(tmp_path) == node(9)
    store.make_room()
    assert Journal(tmp_path / "state.journal").load().records == ()
    store.record(node(10))
    assert len(Journal(tmp_path / "state.journal").load().records) == 1
    assert found(tmp_path) == node(10)


def test_a_journal_is_never_replaced_while_the_snapshot_lacks_its_records(tmp_path: Path) -> None:
    store = stored(tmp_path, 5)
    store.make_room()
    assert len(Journal(tmp_path / "state.journal").load().records) == 5
    store.save(node(6))
    store.make_room()
    assert Journal(tmp_path / "state.journal").load().records == ()
    assert found(tmp_path) == node(6)


def test_a_torn_last_record_costs_itself_and_is_reported(tmp_path: Path) -> None:
    stored(tmp_path, 3)
    spoil(tmp_path, record=2)
    loaded = memory(tmp_path)

    assert found(tmp_path) == node(2)
    assert (loaded.cause, loaded.is_complete, loaded.is_older) == ("torn-state", False, True)
    assert str(tmp_path / "state.journal") in loaded.trouble
    assert loaded.remembered == frozenset()


def test_after_a_bad_record_the_log_is_read_again_from_before_it(
    tmp_path: Path,
) -> None:
    stored(tmp_path, 3)
    spoil(tmp_path, record=1)
    loaded = memory(tmp_path)
    published = [entry.published_at for entry in found(tmp_path).gpus]

    assert published == [1003.0, 1001.0, 1000.0]
    assert found(tmp_path).kmsg_sequence == 101
    assert loaded.is_older


def test_a_missing_record_is_reported_as_a_gap(tmp_path: Path) -> None:
    """A blank block in place of a record: the checksums of the others are right, the sequence is not."""
    stored(tmp_path, 3)
    path = tmp_path / "state.journal"
    body = path.read_bytes()
    path.write_bytes(body[:BLOCK] + b"\n" * BLOCK + body[2 * BLOCK :])

    assert memory(tmp_path).trouble == f"{path}: records 3 to 3 are missing"
    assert found(tmp_path).kmsg_sequence == 101


def test_a_snapshot_that_is_restored_behind_the_journal_is_brought_up_to_it(tmp_path: Path) -> None:
    """The records since the former snapshot are still in the journal until it is half full."""
    store = stored(tmp_path, 1)
    backup = {path: path.read_bytes() for path in tmp_path.glob("state.json*")}
    store.record(node(2))
    store.save(node(3))
    store.make_room()
    store.record(node(4))
    for path in tmp_path.glob("state.json*"):
        path.unlink()
    for path, body in backup.items():
        path.write_bytes(body)
    loaded = memory(tmp_path)
    published = [entry.published_at for entry in found(tmp_path).gpus]

    assert published == [1000.0, 1004.0, 1002.0], "change 3 was in the lost snapshot only"
    assert loaded.is_older
    assert "are missing" in loaded.trouble


def test_a_snapshot_restored_under_a_running_agent_is_saved_over(tmp_path: Path) -> None:
    store = stored(tmp_path, 0)
    backup = {path: path.read_bytes() for path in tmp_path.glob("state.json*")}
    store.save(node(1))
    for path, body in backup.items():
        path.write_bytes(body)
        os.utime(path, (1, 1))
    store.record(node(2))

    assert Journal(tmp_path / "state.journal").load().records == ()
    assert found(tmp_path) == node(2)


def test_a_journal_that_is_restored_behind_the_snapshot_changes_nothing(tmp_path: Path) -> None:
    store = stored(tmp_path, 1)
    shutil.copy(tmp_path / "state.journal", tmp_path / "backup")
    store.record(node(2))
    store.save(node(3))
    shutil.copy(tmp_path / "backup", tmp_path / "state.journal")
    loaded = memory(tmp_path)

    assert found(tmp_path) == node(3)
    assert loaded.trouble == ""


def test_without_a_snapshot_the_published_verdicts_of_the_records_stand_in(tmp_path: Path) -> None:
    """The GPUs that no record lists are unknown, so there is no memory of the node."""
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    for path in tmp_path.glob("state.json*"):
        path.unlink()
    loaded = memory(tmp_path)

    assert loaded.node is None
    assert [(each.uuid, each.state, each.reason, each.isolated) for each in loaded.verdicts] == [
        ("GPU-3", "Unhealthy", "Xid79", True)
    ]
    assert "snapshot" in loaded.trouble
    heir = AgentWorld(tmp_path)
    heir.turn(1100, inventory(1100), *(reading(index, 1100) for index in range(8)))
    assert heir.states().index(HealthState.UNHEALTHY) == 3


@pytest.mark.parametrize("make", ["directory", "fifo", "text", "dangling"])
def test_an_unreadable_journal_costs_itself_and_is_reported(tmp_path: Path, make: str) -> None:
    """As an unreadable snapshot: the stored slices are read before anything is published."""
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    path = tmp_path / "state.journal"
    path.unlink()
    match make:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "text":
            path.write_bytes(b"\x00\xff not json")
        case _:
            path.symlink_to(tmp_path / "nowhere")
    loaded = memory(tmp_path)
    assert loaded.node is not None
    assert (loaded.cause, loaded.is_complete, loaded.is_older) == ("torn-state", False, True)
    assert str(path) in loaded.trouble

    heir = AgentWorld(tmp_path)
    heir.stored_verdicts.verdicts = (
        PublishedVerdict(
            uuid=GpuUuid("GPU-3"),
            state="Unhealthy",
            reason="Xid79",
            isolated=True,
            origin="the slice",
            boot_id="boot-1",
        ),
    )
    heir.turn(1100, inventory(1100), *(reading(index, 1100) for index in range(8)))
    assert heir.states().index(HealthState.UNHEALTHY) == 3


def newer(record: dict[str, object]) -> None:
    record["schema"] = 2


def newer_class(record: dict[str, object]) -> None:
    gpu_entry = record["node"]["gpus"][0]  # type: ignore[index]
    gpu_entry["state"]["faults"][0]["rule"]["fault_class"] = "A2"


@pytest.mark.parametrize("change", [newer, newer_class], ids=["schema", "class of a fault"])
def test_a_record_of_a_newer_version_keeps_the_failed_gpu_out(
    tmp_path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    (record,) = Journal(tmp_path / "state.journal").load().records
    document = json.loads(record.payload)
    change(document)
    written = Journal(tmp_path / "state.journal")
    written.create()
    written.append(record.sequence, json.dumps(document).encode())
    before = {path.name: path.read_bytes() for path in tmp_path.glob("state*")}
    heir = AgentWorld(tmp_path)
    heir.turn(1100, inventory(1100), *(reading(index, 1100) for index in range(8)))
    heir.turn(1110, fault(5, 79, 1110))

    states = heir.states()
    assert {index for index, state in enumerate(states) if state is HealthState.UNHEALTHY} == {3, 5}
    if change is newer:
        after = {
            path.name: path.read_bytes() for path in tmp_path.glob("state*") if "schema-1" not in path.name
        }
        assert after == before, "the files of the newer version are never written"
        assert (tmp_path / "state.schema-1.journal").exists()


def test_a_journal_of_another_boot_is_not_applied_to_the_snapshot(tmp_path: Path) -> None:
    """It happens if the newer snapshot is lost: two boots have two clocks."""
    stored(tmp_path, 1)
    backup = {path: path.read_bytes() for path in tmp_path.glob("state.json*")}
    store = small_store(tmp_path)
    store.load()
    store.save(node(5, boot_id=BootId("boot-2"), saved=moment(2000.0)))
    store.make_room()
    store.record(node(6, boot_id=BootId("boot-2"), saved=moment(2001.0)))
    for path in tmp_path.glob("state.json*"):
        path.unlink()
    for path, body in backup.items():
        path.write_bytes(body)

    assert found(tmp_path) == node(0)
    assert "another boot" in memory(tmp_path).trouble


def test_a_disk_that_refuses_the_journal_has_every_change_saved_in_the_snapshot(tmp_path: Path) -> None:
    """A full disk: overwriting the snapshot in place needs no space, a new journal does."""
    store = small_store(tmp_path)
    store.load()
    store.save(node(0))
    store.save(node(1))
    with no_file_larger_than(2 * BLOCK):
        store.make_room()
        store.record(node(2))
    assert not (tmp_path / "state.journal").exists()
    assert found(tmp_path) == node(2)
    assert memory(tmp_path).trouble == ""

    store.make_room()
    store.record(node(3))
    assert len(Journal(tmp_path / "state.journal").load().records) == 1


def test_a_failed_append_is_followed_by_a_snapshot(tmp_path: Path) -> None:
    store = stored(tmp_path, 1)
    with no_file_larger_than(BLOCK):
        # The journal refuses the record; the snapshot of three GPUs fits into its slot.
        store.record(node(2))
    assert found(tmp_path) == node(2)


def test_a_disk_that_refuses_everything_is_reported_once_and_hides_no_fault(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    with no_file_larger_than(0):
        world.turn(1010, fault(3, 79, 1010))
        world.turn(1020, fault(4, 79, 1020))
    assert world.states().count(HealthState.UNHEALTHY) == 2
    assert [each.reason for each in world.events if each.reason.startswith("Storage")] == ["StorageFailed"]

    world.turn(1060, fault(5, 79, 1060))
    stored_node = memory(tmp_path).node
    assert stored_node is not None
    assert [entry.isolated for entry in stored_node.gpus] == [index in (3, 4, 5) for index in range(8)]
    assert [each.reason for each in world.events if each.reason.startswith("Storage")][
        -1
    ] == "StorageRecovered"


def test_in_a_hand_over_the_successor_saves_its_own_memory_first(tmp_path: Path) -> None:
    """It has read the files before the predecessor's last records."""
    predecessor = stored(tmp_path, 1)
    successor = small_store(tmp_path)
    successor.load()
    for number in (2, 3, 4):
        predecessor.record(node(number))
    own = replace(node(1), revision=50, saved=moment(1010.0))
    successor.record(own)
    assert found(tmp_path) == own, "a kill before the journal is replaced"
    successor.make_room()
    successor.record(replace(node(2), revision=51, saved=moment(1011.0)))
    assert found(tmp_path).revision == 51

    # The predecessor notices the other snapshot, and appends nothing to the successor's journal.
    predecessor.record(node(5, saved=moment(1012.0)))
    assert [each.sequence for each in Journal(tmp_path / "state.journal").load().records] == [
        successor_sequence(tmp_path)
    ]


def successor_sequence(folder: Path) -> int:
    (record,) = Journal(folder / "state.journal").load().records
    return record.sequence


def test_the_fault_is_on_disk_when_it_is_published(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    on_disk: list[bool] = []

    def check() -> None:
        loaded = memory(tmp_path).node
        assert loaded is not None
        on_disk.append(any(entry.isolated for entry in loaded.gpus))

    world.agent.listen(lambda snapshot, observed_at: check())
    world.begin()
    world.turn(1010, fault(3, 79, 1010))
    assert on_disk == [False, True]


def test_a_publication_leaves_the_snapshot_alone_and_idle_time_saves_it(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    before = DurableFile(tmp_path / "state.json").load().payload
    world.turn(1010, fault(3, 79, 1010))
    assert DurableFile(tmp_path / "state.json").load().payload == before
    world.turn(1041)
    assert DurableFile(tmp_path / "state.json").load().payload != before


def test_a_kill_before_every_file_system_call_loses_no_acknowledged_change(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'tests'}:{_ROOT / 'driver'}"}
    done = run(
        [sys.executable, "-m", "support.crash.journal_crash", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 100, "the points were not reached"


def test_the_fields_that_are_read_again_are_fields_of_the_state() -> None:
    """A field that is renamed would count as lasting, and every poll would be written into the journal."""
    assert {entry.name for entry in fields(GpuState)} >= READ_AGAIN
