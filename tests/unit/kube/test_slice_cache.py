"""What the publisher knows, when its own answers and the watch come in any order."""

import msgspec

from gpuvitals.inventory.device import Device, Taint, TaintEffect
from gpuvitals.inventory.pool import Pool, PoolSlice
from gpuvitals.kube.repair_budget import RepairBudget
from gpuvitals.kube.slice_cache import SliceCache
from gpuvitals.kube.slice_codec import TaintKey
from gpuvitals.model.ids import DeviceName, NodeName

KEY: TaintKey = ("a", "d/unhealthy", "Xid79", "NoSchedule")


def stored(version: int, *, time: str | None = None, name: str = "00000-x") -> bytes:
    taints = [{"key": KEY[1], "value": KEY[2], "effect": KEY[3], "timeAdded": time}] if time else []
    return msgspec.json.encode(
        {
            "metadata": {"name": name, "uid": "u", "resourceVersion": str(version)},
            "spec": {
                "pool": {"name": "n", "generation": 4, "resourceSliceCount": 1},
                "devices": [{"name": "a", "taints": taints}],
            },
        }
    )


def listed(version: int, *items: bytes) -> bytes:
    return b'{"metadata":{"resourceVersion":"%d"},"items":[%s]}' % (version, b",".join(items))


def pool(*, tainted: bool, name: str = "a") -> Pool:
    taint = Taint(key=KEY[1], value=KEY[2], effect=TaintEffect.NO_SCHEDULE)
    device = Device(name=DeviceName(name), attributes=(), capacity=(), taints=(taint,) if tainted else ())
    entry = PoolSlice(index=0, devices=(device,), annotations=())
    return Pool(node=NodeName("n"), driver="d", slices=(entry,))


def cache(times: dict[TaintKey, str] | None = None) -> SliceCache:
    return SliceCache("note", times or {})


def names(held: SliceCache) -> list[tuple[str, str]]:
    return [(entry.name, entry.resource_version) for entry in held.view()[0]]


def test_an_own_echo_is_no_news_and_an_older_event_changes_nothing() -> None:
    held = cache()
    held.stored(stored(11))

    assert not held.watched("00000-x", stored(11))
    assert not held.watched("00000-x", stored(9))
    assert held.watched("00000-x", stored(100))
    assert names(held) == [("00000-x", "100")]


def test_an_event_on_its_way_does_not_bring_back_what_was_deleted() -> None:
    held = cache()
    held.stored(stored(11))
    held.deleted("00000-x")

    assert not held.watched("00000-x", stored(12))
    assert names(held) == []
    assert not held.watched("00000-x", None)


def test_a_list_replaces_what_it_can_know_about() -> None:
    held = cache()
    for version, name in ((3, "00000-gone"), (4, "00000-kept"), (30, "00000-newer")):
        held.stored(stored(version, name=name))
    held.replace(listed(20, stored(12, name="00000-kept"), stored(13, name="00001-found")))

    assert sorted(names(held)) == [("00000-kept", "12"), ("00000-newer", "30"), ("00001-found", "13")]


def test_a_taint_keeps_its_time_through_a_wipe_and_a_foreign_edit_until_it_is_lifted() -> None:
    held = cache()
    held.stored(stored(1, time="2026-11-24T01:00:00Z"))
    held.expect(pool(tainted=True))
    held.watched("00000-x", stored(2))
    held.watched("00000-x", stored(3, time="2026-11-24T05:00:00Z"))
    held.watched("00000-x", None)

    assert held.view()[1].taint_times == {KEY: "2026-11-24T01:00:00Z"}
    assert held.view()[1].generation == 4
    held.expect(pool(tainted=False))
    assert held.taint_times() == {}


def test_a_device_that_the_pool_does_not_name_keeps_the_age_of_its_taint() -> None:
    held = cache({KEY: "2026-11-24T01:00:00Z"})
    held.expect(pool(tainted=False, name="another"))

    assert held.taint_times() == {KEY: "2026-11-24T01:00:00Z"}


def test_a_difference_of_the_server_is_news_once() -> None:
    held = cache()

    assert held.accept(b"sent", b"kept")
    assert not held.accept(b"sent", b"kept")
    assert held.view()[1].accepted == {b"sent": b"kept"}


def test_the_budget_allows_a_burst_and_then_one_a_second() -> None:
    budget = RepairBudget(burst=3, seconds=1.0)

    assert [budget.take(100.0) for _ in range(3)] == [0, 0, 0]
    wait = budget.take(100.2)
    assert 0 < wait <= 1
    assert budget.take(100.2 + wait) == 0
    assert [budget.take(1000.0) for _ in range(4)][:3] == [0, 0, 0]
