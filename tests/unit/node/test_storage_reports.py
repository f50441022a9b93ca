"""A failing disk is one event, and one more once every file is written again."""

from pathlib import Path

from support.worlds.agent_world import AgentWorld, fault, reading


def reasons(world: AgentWorld) -> list[str]:
    return [entry.reason for entry in world.events if entry.reason.startswith("Storage")]


def test_an_unwritable_file_is_one_event_and_one_more_once_it_is_written(tmp_path: Path) -> None:
    """Finding K10: independent of the number of failed saves and of the state file."""
    world = AgentWorld(tmp_path)
    world.begin()
    blocked = [tmp_path / name for name in ("state.json", "state.json.2", "policies.json", "policies.json.2")]
    for path in blocked:
        path.unlink(missing_ok=True)
        path.mkdir()
    for step in range(5):
        world.turn(1040 + 40 * step, fault(step, 79, 1040 + 40 * step))
    world.resolver.labels({"changed": "now"})
    world.turn(1300)
    assert reasons(world) == ["StorageFailed"]
    assert "state.json" in world.events[1].message or "state.json" in world.events[0].message

    for path in blocked:
        path.rmdir()
    world.turn(1400, *(reading(index, 1400) for index in range(5, 8)))
    world.turn(1450)
    assert reasons(world) == ["StorageFailed", "StorageRecovered"]
