"""The cache of slices, with own answers and watch events in any order."""

import msgspec

from gpuvitals.inventory.device import Device, Taint, TaintEffect
from gpuvitals.inventory.pool import Pool, PoolSlice
from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.codec import ObservedSlice, TaintKey
from gpuvitals.kube.slices.repair_budget import RepairBudget
from gpuvitals.model.ids import DeviceName, NodeName

KEY: TaintKey = ("a", "d/unhealthy", "Xid79", "NoSchedule")


def stored(version: int, *, time: str | None = None, name: str = "00000-x", uid: str = "u") -> bytes:
    taints = [{"key": KEY[1], "value": KEY[2], "effect": KEY[3], "timeAdded": time}] if time else []
    return msgspec.json.encode(
        {
            "metadata": {"name": name, "uid": uid, "resourceVersion": str(version)},
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


def shown(held: SliceCache) -> ObservedSlice:
    return held.view()[0][0]


def test_an_own_echo_is_no_news_and_an_older_event_changes_nothing() -> None:
    held = cache()
    held.record_write(stored(11))

    assert not held.observe(stored(11))
    assert not held.observe(stored(9))
    assert held.observe(stored(100))
    assert names(held) == [("00000-x", "100")]


def test_an_event_on_its_way_does_not_bring_back_what_was_deleted() -> None:
    held = cache()
    held.record_write(stored(11))
    held.record_delete(shown(held))

    assert not held.observe(stored(12))
    assert names(held) == []
    assert not held.observe_delete("00000-x", "u")


def test_an_answer_that_comes_after_the_delete_revives_nothing() -> None:
    """Finding K3."""
    held = cache()
    held.observe(stored(11))
    assert held.observe_delete("00000-x", "u")
    held.record_write(stored(12))

    assert names(held) == []


def test_an_answer_about_an_object_that_the_watch_never_showed_revives_nothing() -> None:
    """Finding K3: created and deleted between two lists, and only then the create is answered."""
    held = cache()
    held.settle([], "20", rewound=False)
    held.record_write(stored(12))

    assert names(held) == []


def test_a_slice_created_anew_under_the_name_of_a_deleted_one_is_taken() -> None:
    """Finding K3."""
    held = cache()
    held.observe(stored(11))
    held.observe_delete("00000-x", "u")
    held.observe_version("12")

    assert held.observe(stored(13, uid="another"))
    assert not held.observe_delete("00000-x", "u")
    held.record_write(stored(12))
    assert (names(held), shown(held).uid) == ([("00000-x", "13")], "another")


def test_a_list_of_the_watch_settles_what_was_missed() -> None:
    """Finding K3."""
    held = cache()
    for version, name in ((3, "00000-gone"), (4, "00000-kept"), (30, "00000-newer")):
        held.record_write(stored(version, name=name, uid=name))
    found = [stored(4, name="00000-kept", uid="00000-kept"), stored(13, name="00001-found", uid="found")]

    assert held.settle(found, "20", rewound=False)
    assert sorted(names(held)) == [("00000-kept", "4"), ("00000-newer", "30"), ("00001-found", "13")]
    assert not held.settle(found, "20", rewound=False)


def test_a_server_restored_from_a_backup_is_taken_as_it_is() -> None:
    held = cache()
    held.observe(stored(900))
    held.observe_version("1000")

    assert held.settle([stored(40)], "50", rewound=True)
    assert held.observe(stored(51))
    assert names(held) == [("00000-x", "51")]


def test_a_list_replaces_what_it_can_know_about() -> None:
    held = cache()
    for version, name in ((3, "00000-gone"), (4, "00000-kept"), (30, "00000-newer")):
        held.record_write(stored(version, name=name, uid=name))
    kept, found = stored(12, name="00000-kept", uid="00000-kept"), stored(13, name="00001-found", uid="found")
    held.replace(listed(20, kept, found))

    assert sorted(names(held)) == [("00000-kept", "12"), ("00000-newer", "30"), ("00001-found", "13")]


def test_a_taint_keeps_its_time_through_a_wipe_and_a_foreign_edit_until_it_is_lifted() -> None:
    held = cache()
    held.record_write(stored(1, time="2026-11-24T01:00:00Z"))
    held.forget_lifted_taints(pool(tainted=True))
    held.observe(stored(2))
    held.observe(stored(3, time="2026-11-24T05:00:00Z"))
    held.observe_delete("00000-x", "u")

    assert held.view()[1].taint_times == {KEY: "2026-11-24T01:00:00Z"}
    assert held.view()[1].generation == 4
    held.forget_lifted_taints(pool(tainted=False))
    assert held.taint_times() == {}


def test_a_device_that_the_pool_does_not_name_keeps_the_age_of_its_taint() -> None:
    held = cache({KEY: "2026-11-24T01:00:00Z"})
    held.forget_lifted_taints(pool(tainted=False, name="another"))

    assert held.taint_times() == {KEY: "2026-11-24T01:00:00Z"}


def test_a_difference_of_the_server_is_news_once() -> None:
    held = cache()

    assert held.accept_difference(b"sent", b"kept")
    assert not held.accept_difference(b"sent", b"kept")
    assert held.view()[1].accepted == {b"sent": b"kept"}


def test_the_budget_allows_a_burst_and_then_one_a_second() -> None:
    budget = RepairBudget(burst=3, seconds=1.0)

    assert [budget.take(100.0) for _ in range(3)] == [0, 0, 0]
    wait = budget.take(100.2)
    assert 0 < wait <= 1
    assert budget.take(100.2 + wait) == 0
    assert [budget.take(1000.0) for _ in range(4)][:3] == [0, 0, 0]
