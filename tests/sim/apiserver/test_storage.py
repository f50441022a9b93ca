"""The store: revisions, history, subscriptions, compaction."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals_sim.apiserver import ApiError, Key, Store
from gpuvitals_sim.apiserver.storage import Change, Subscription

KIND = "things"


def put(store: Store, name: str, value: int) -> dict[str, Any]:
    return store.put(Key(KIND, "ns", name), {"metadata": {"name": name}, "value": value})


def drained(subscription: Subscription) -> list[Change]:
    found = []
    while (change := subscription.next(0.0)) is not None:
        found.append(change)
    return found


def values(store: Store, revision: int | None = None) -> dict[str, int]:
    return {key.name: obj["value"] for key, obj in store.objects(KIND, revision=revision)}


def test_every_change_gets_the_next_revision() -> None:
    store = Store()
    first, second = put(store, "a", 1), put(store, "a", 2)
    assert int(second["metadata"]["resourceVersion"]) == int(first["metadata"]["resourceVersion"]) + 1
    store.delete(Key(KIND, "ns", "a"))
    assert store.revision == int(second["metadata"]["resourceVersion"]) + 1
    assert store.get(Key(KIND, "ns", "a")) is None


def test_an_old_revision_can_be_listed_until_it_is_compacted() -> None:
    store = Store()
    put(store, "a", 1)
    put(store, "b", 1)
    then = store.revision
    put(store, "a", 2)
    store.delete(Key(KIND, "ns", "b"))
    put(store, "c", 1)
    assert values(store, then) == {"a": 1, "b": 1}
    assert values(store) == {"a": 2, "c": 1}
    store.compact()
    with pytest.raises(ApiError) as refusal:
        store.objects(KIND, revision=then)
    assert refusal.value.code == 410


def test_history_is_bounded() -> None:
    store = Store(history=5)
    for number in range(20):
        put(store, "a", number)
    with pytest.raises(ApiError):
        store.subscribe(KIND, since=1)
    recent = drained(store.subscribe(KIND, since=store.revision - 3))
    assert [change.after["value"] for change in recent] == [17, 18, 19]


def test_closing_wakes_the_reader() -> None:
    store = Store()
    subscription = store.subscribe(KIND, since=store.revision)
    assert store.close_subscriptions(KIND) == 1
    assert subscription.next(5.0) is None
    assert subscription.ended


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["put", "delete"]), st.integers(0, 3)), max_size=30
)


@given(OPERATIONS, st.integers(0, 30))
def test_replaying_a_watch_onto_a_list_gives_the_present_list(
    operations: list[tuple[str, str, int]], cut: int
) -> None:
    """From any moment: list then, plus the changes since, equals list now."""
    store = Store()
    seen: dict[str, int] = {}
    subscription = store.subscribe(KIND, since=store.revision)
    for step, (name, operation, value) in enumerate(operations):
        if step == cut:
            seen, since = values(store), store.revision
            subscription = store.subscribe(KIND, since=since)
        if operation == "put":
            put(store, name, value)
        elif store.get(Key(KIND, "ns", name)) is not None:
            store.delete(Key(KIND, "ns", name))
    for change in drained(subscription):
        if change.type == "DELETED":
            del seen[change.key.name]
        else:
            seen[change.key.name] = change.after["value"]
    assert seen == values(store)
