"""An unreadable memory heals no GPU: each record fails alone, and the published verdict stands in for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.durable import DurableFile
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import IdentityReport, Source
from gpuvitals.node.state_store import StateStore
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, inventory, reading

Json = dict[str, Any]
SICK = 2


def spoiled(folder: Path, spoil: Callable[[Json], object]) -> bytes:
    """Changes the state file into one of another version, and returns its new payload."""
    file = DurableFile(folder / "state.json")
    payload = file.load().payload
    assert payload is not None
    document = json.loads(payload)
    spoil(document)
    changed = json.dumps(document).encode()
    file.save(changed)
    return changed


def sick_world(folder: Path) -> AgentWorld:
    """Eight GPUs of which one had an XID 95 and reads clean since."""
    world = AgentWorld(folder)
    world.begin()
    world.turn(1010, fault(SICK, 95, 1010))
    world.turn(1020, *(reading(index, 1020) for index in range(8)))
    assert world.states()[SICK] is HealthState.UNHEALTHY
    world.turn(1060)
    return world


def heir_of(folder: Path, recalled: tuple[PublishedVerdict, ...] = ()) -> AgentWorld:
    """The next agent, for which every GPU is enumerated and reads clean."""
    world = AgentWorld(folder)
    world.stored_verdicts.verdicts = recalled
    world.turn(1100, inventory(1100), *(reading(index, 1100) for index in range(8)))
    world.turn(1130, *(reading(index, 1130) for index in range(8)))
    return world


def record(document: Json, index: int = SICK) -> Json:
    found: Json = document["node"]["gpus"][index]
    return found


def shown(index: int = SICK, **changes: Any) -> PublishedVerdict:
    values: Json = {"state": "Unhealthy", "reason": "Xid95", "isolated": True, "boot_id": "boot-1"}
    return PublishedVerdict(uuid=GpuUuid(f"GPU-{index}"), origin="the slice", **{**values, **changes})


SPOILED: dict[str, Callable[[Json], object]] = {
    "newer schema": lambda document: document.update(schema=2),
    "newer class of a fault": lambda document: record(document)["state"]["faults"][0]["rule"].update(
        fault_class="A2"
    ),
    "newer way to clear": lambda document: record(document)["state"]["faults"][0]["rule"].update(
        clearing="replacement"
    ),
    "newer reason and class": lambda document: (
        record(document)["state"]["faults"][0]["rule"].update(reason="Smoke", fault_class="S"),
        record(document)["published"].update(reason="Smoke"),
    ),
    "newer state of the verdict": lambda document: (
        record(document).update(state=7),
        record(document)["published"].update(state="Quarantined"),
    ),
    "state is another shape": lambda document: record(document).update(state=["new", "shape"]),
    "a time without a zone": lambda document: record(document)["state"]["faults"][0].update(
        last_time="2026-01-01T00:00:00"
    ),
    "a time beyond the calendar": lambda document: record(document).update(
        state_since="9999-12-31T23:59:59-08:00"
    ),
    "a number beyond reckoning": lambda document: record(document)["state"].update(started_at=1e300),
    "newer kind of gpu": lambda document: record(document)["gpu"].update(kind="chiplet"),
    "newer schema with an unknown word": lambda document: (
        document.update(schema=9),
        record(document)["state"].update(xids="many"),
        record(document)["state"]["faults"][0]["rule"].update(clearing="replacement"),
    ),
    "no time of the save": lambda document: document["node"].pop("saved"),
    "newer facts of the node": lambda document: document["node"].update(
        facts={"monitors": [["sonar", "on"]]}
    ),
    "newer shape of the unread records": lambda document: document.update(schema=2, unread=[{"gpu": {}}, 7]),
    "a schema that is a text": lambda document: document.update(schema="2"),
    "a schema of two parts": lambda document: document.update(schema={"major": 2, "minor": 1}),
    "a schema beyond reckoning": lambda document: document.update(schema=10**40),
    "no schema": lambda document: document.pop("schema"),
    "unread records that are none": lambda document: document.update(unread=[7, None]),
    "a boot id that is a number": lambda document: document["node"].update(boot_id=3),
    "records by uuid": lambda document: (
        document.update(schema=2),
        document["node"].update(gpus={each["gpu"]["uuid"]: each for each in document["node"]["gpus"]}),
    ),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_failed_gpu_stays_out_whatever_its_record_became(
    tmp_path: Path, spoil: Callable[[Json], object]
) -> None:
    """Finding K4, Finding R10: the other GPUs keep their memory; the failed one stays out without stored slices."""
    sick_world(tmp_path)
    spoiled(tmp_path, spoil)
    heir = heir_of(tmp_path)

    assert [each is HealthState.UNHEALTHY for each in heir.states()] == [index == SICK for index in range(8)]
    assert heir.published[-1].gpus[SICK].isolated
    assert all(snapshot.gpus[SICK].isolated for snapshot in heir.published)


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_restored_fault_ends_by_the_rules(tmp_path: Path, spoil: Callable[[Json], object]) -> None:
    """Finding K4: an observed reset ends it, and probation follows."""
    sick_world(tmp_path)
    spoiled(tmp_path, spoil)
    heir = heir_of(tmp_path)
    again = IdentityReport(
        source=Source.KMSG, seen=moment(1200), bus_id=gpu(SICK).bus_id, uuid=gpu(SICK).uuid
    )
    heir.turn(1200, again)
    heir.turn(1205, *(reading(index, 1205) for index in range(8)))

    verdict = heir.published[-1].gpus[SICK].verdict
    assert (verdict.state, verdict.reason) == (HealthState.DEGRADED, "Probation")


def test_a_newer_file_stays_byte_for_byte_and_the_older_version_remembers_beside_it(tmp_path: Path) -> None:
    """Finding K4: a rollback, a fault under the old version, a restart of it, and the upgrade back."""
    sick_world(tmp_path)
    newer = spoiled(tmp_path, lambda document: document.update(schema=2, news={"a": 1}))
    before = [path.read_bytes() for path in sorted(tmp_path.glob("state.json*"))]
    old = heir_of(tmp_path)
    old.turn(1140, fault(5, 79, 1140))
    assert [path.read_bytes() for path in sorted(tmp_path.glob("state.json*"))] == before
    assert DurableFile(tmp_path / "state.json").load().payload == newer

    old = heir_of(tmp_path)
    assert {index for index, state in enumerate(old.states()) if state is HealthState.UNHEALTHY} == {SICK, 5}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.update(schema=2, unread=[{"gpu": {}}]),
        lambda document: document.update(schema=2, memory=document.pop("node")),
        lambda document: document.update(schema=2, node=[]),
        lambda document: document.update(schema="2.0"),
        lambda document: document.pop("schema"),
    ],
    ids=["other unread", "no node", "node is a list", "schema is a text", "no schema"],
)
def test_a_file_of_another_shape_is_never_overwritten(
    tmp_path: Path, spoil: Callable[[Json], object]
) -> None:
    """Finding K4: whichever part of the file a newer version has changed."""
    sick_world(tmp_path)
    newer = spoiled(tmp_path, spoil)
    old = heir_of(tmp_path, (shown(),))
    old.turn(1140, fault(5, 79, 1140))
    assert DurableFile(tmp_path / "state.json").load().payload == newer

    old = heir_of(tmp_path, (shown(),))
    assert {index for index, state in enumerate(old.states()) if state is HealthState.UNHEALTHY} == {SICK, 5}


def test_the_next_version_takes_over_what_was_saved_last(tmp_path: Path) -> None:
    """Finding K4: after the upgrade the file beside it is merged and removed."""
    sick_world(tmp_path)
    spoiled(tmp_path, lambda document: document.update(schema=2))
    old = heir_of(tmp_path)
    old.turn(1140, fault(5, 79, 1140))
    spoiled(tmp_path, lambda document: document.update(schema=1))
    new = heir_of(tmp_path)

    assert {index for index, state in enumerate(new.states()) if state is HealthState.UNHEALTHY} == {SICK, 5}
    assert sorted(path.name for path in tmp_path.glob("state*")) == [
        "state.journal",
        "state.json",
        "state.json.2",
    ]


def test_a_record_of_a_newer_version_is_carried_until_it_can_be_read(tmp_path: Path) -> None:
    """Finding R10: the version that wrote the unknown value finds the record again."""
    sick_world(tmp_path)
    spoiled(
        tmp_path,
        lambda document: record(document)["state"]["faults"][0]["rule"].update(clearing="replacement"),
    )
    heir_of(tmp_path).turn(1200, *(reading(index, 1200) for index in range(8)))
    spoiled(
        tmp_path,
        lambda document: document.update(
            unread=[text.replace("replacement", "operator") for text in document["unread"]]
        ),
    )
    upgraded = StateStore(tmp_path / "state.json").load()

    assert upgraded.node is not None
    assert upgraded.node.gpus[SICK].state.faults[0].rule.reason == "Xid95"


@pytest.mark.parametrize("make", ["directory", "fifo", "text", "empty", "dangling"])
def test_a_path_that_is_no_state_file_is_named_and_costs_only_the_memory(tmp_path: Path, make: str) -> None:
    """Finding R10: no content of the two slots ends the start."""
    import os

    for name in ("state.json", "state.json.2"):
        path = tmp_path / name
        match make:
            case "directory":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "text":
                path.write_bytes(b"\x00\xff not json")
            case "empty":
                path.touch()
            case _:
                path.symlink_to(tmp_path / "nowhere")
    memory = StateStore(tmp_path / "state.json").load()

    assert memory.node is None
    assert str(tmp_path / "state.json") in memory.trouble
    assert not memory.is_complete
    world = AgentWorld(tmp_path)
    world.begin()
    assert world.states() == [HealthState.HEALTHY] * 8


def test_a_moved_state_folder_keeps_a_failed_gpu_out(tmp_path: Path) -> None:
    """Finding R10: without any file the stored slices are read before anything is published."""
    world = AgentWorld(tmp_path)
    world.stored_verdicts.verdicts = None
    world.begin()
    world.turn(1010)
    assert world.published == []
    world.stored_verdicts.verdicts = (shown(), shown(3, state="Healthy", reason="None", isolated=False))
    world.turn(1020, *(reading(index, 1020) for index in range(8)))

    assert [state is HealthState.UNHEALTHY for state in world.states()] == [
        index == SICK for index in range(8)
    ]
    verdict = world.published[0].gpus[SICK].verdict
    assert (verdict.reason, verdict.score, verdict.last_xid) == ("Xid95", 0, 0)
    assert "published" in verdict.message or "the slice" in verdict.message


def test_reading_the_log_again_does_not_change_a_restored_fault(tmp_path: Path) -> None:
    """Finding R10: the same XID in the log of this boot is older than this agent, and may not be dropped by a reading."""
    world = AgentWorld(tmp_path)
    world.stored_verdicts.verdicts = (shown(),)
    world.turn(1100, fault(SICK, 95, 900), inventory(1100), *(reading(index, 1100) for index in range(8)))
    world.turn(1110, *(reading(index, 1110) for index in range(8)))

    assert world.published[-1].gpus[SICK].isolated


def test_a_fault_of_an_earlier_boot_ends_by_a_clean_reading(tmp_path: Path) -> None:
    """Finding R10: the slice names its boot."""
    world = AgentWorld(tmp_path)
    world.stored_verdicts.verdicts = (shown(boot_id="boot-0"),)
    world.begin()
    assert world.published[-1].gpus[SICK].isolated
    world.turn(1010, *(reading(index, 1010) for index in range(8)))

    verdict = world.published[-1].gpus[SICK].verdict
    assert (verdict.state, verdict.reason) == (HealthState.DEGRADED, "Probation")


def test_a_stored_slice_does_not_overrule_a_remembered_gpu(tmp_path: Path) -> None:
    """The memory is the newer of the two: a repair that was not published yet is not undone."""
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1060)
    heir = heir_of(tmp_path, (shown(),))

    assert heir.states() == [HealthState.HEALTHY] * 8


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("GpuLost", "GpuLost"),
        ("RowRemapFailed", "RowRemapFailed"),
        ("Xid74", "Xid74"),
        ("Xid109", "Xid109"),
        ("Flapping", "Flapping"),
        ("Xid99999", "EarlierFault"),
        ("SomethingNew", "EarlierFault"),
        ("", "EarlierFault"),
        ("\ud800", "EarlierFault"),
    ],
)
def test_every_reason_of_a_tainted_device_keeps_it_out(tmp_path: Path, reason: str, expected: str) -> None:
    """Finding K4: including a reason that this version does not know."""
    world = AgentWorld(tmp_path)
    world.stored_verdicts.verdicts = (shown(reason=reason),)
    world.begin()
    world.turn(1100, *(reading(index, 1100) for index in range(8)))

    verdict = world.published[-1].gpus[SICK].verdict
    assert (verdict.reason, world.published[-1].gpus[SICK].isolated) == (expected, True)


def test_blindness_and_probation_are_no_fault(tmp_path: Path) -> None:
    """A GPU on probation stays on it; one that could not be read is read."""
    world = AgentWorld(tmp_path)
    world.stored_verdicts.verdicts = (
        shown(1, state="Unknown", reason="NoEvidence", isolated=False),
        shown(2, state="Degraded", reason="Probation", isolated=False),
    )
    world.begin()

    assert [entry.verdict.reason for entry in world.published[-1].gpus[:3]] == ["None", "None", "Probation"]
