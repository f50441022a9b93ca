"""Merge patch (RFC 7386) and strategic merge patch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.apiserver.kinds import Catalogue
from gpuvitals_sim.apiserver.merge_schema import MergeSchema, merge_schema_of
from gpuvitals_sim.apiserver.patching.merge_patch import apply_merge_patch
from gpuvitals_sim.apiserver.patching.strategic import apply_strategic_patch

RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("document", "patch", "expected"), RFC_7386)
def test_merge_patch_does_what_the_rfc_lists(document: Any, patch: Any, expected: Any) -> None:
    assert apply_merge_patch(document, patch) == expected


@given(JSON, JSON)
def test_a_merge_patch_applied_twice_changes_nothing_more(document: Any, patch: Any) -> None:
    once = apply_merge_patch(document, patch)
    assert apply_merge_patch(once, patch) == once


@pytest.fixture
def node_shape() -> MergeSchema:
    return merge_schema_of(Catalogue().named("nodes"))


def conditions(*entries: tuple[str, str]) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": kind, "status": value} for kind, value in entries]}}


def test_conditions_merge_by_type(node_shape: MergeSchema) -> None:
    """The others stay; a new one comes first, as the real server puts it."""
    live = conditions(("Ready", "True"), ("Disk", "False"))
    assert apply_strategic_patch(live, conditions(("Disk", "True")), node_shape) == conditions(
        ("Ready", "True"), ("Disk", "True")
    )
    added = apply_strategic_patch(live, conditions(("GPUHealthy", "True")), node_shape)
    assert added == conditions(("GPUHealthy", "True"), ("Ready", "True"), ("Disk", "False"))


def test_a_delete_directive_removes_one_item(node_shape: MergeSchema) -> None:
    live = conditions(("Ready", "True"), ("Disk", "False"))
    patch = {"status": {"conditions": [{"type": "Disk", "$patch": "delete"}]}}
    assert apply_strategic_patch(live, patch, node_shape) == conditions(("Ready", "True"))


def test_a_replace_directive_replaces_the_list_or_map(node_shape: MergeSchema) -> None:
    live = conditions(("Ready", "True"))
    patch = {"status": {"conditions": [{"$patch": "replace"}, {"type": "Disk", "status": "True"}]}}
    assert apply_strategic_patch(live, patch, node_shape) == conditions(("Disk", "True"))
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert apply_strategic_patch(
        labels, {"metadata": {"labels": {"$patch": "replace", "c": "d"}}}, node_shape
    ) == {"metadata": {"labels": {"c": "d"}}}


def test_node_taints_are_replaced_as_a_whole(node_shape: MergeSchema) -> None:
    """They have no merge key in the real API either."""
    live = {"spec": {"taints": [{"key": "a"}]}}
    assert apply_strategic_patch(live, {"spec": {"taints": [{"key": "b"}]}}, node_shape) == {
        "spec": {"taints": [{"key": "b"}]}
    }


def test_an_element_order_is_obeyed(node_shape: MergeSchema) -> None:
    live = conditions(("A", "1"), ("B", "1"))
    patch = {"status": {"$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}]}}
    assert apply_strategic_patch(live, patch, node_shape) == conditions(("B", "1"), ("A", "1"))


def test_finalizers_are_a_set(node_shape: MergeSchema) -> None:
    live = {"metadata": {"finalizers": ["a/b"]}}
    assert apply_strategic_patch(live, {"metadata": {"finalizers": ["c/d"]}}, node_shape)["metadata"][
        "finalizers"
    ] == ["c/d", "a/b"]
    gone = apply_strategic_patch(
        live, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}, node_shape
    )
    assert gone == {"metadata": {"finalizers": []}}


def test_an_item_without_its_key_is_refused(node_shape: MergeSchema) -> None:
    with pytest.raises(ApiError) as refusal:
        apply_strategic_patch({}, {"status": {"conditions": [{"status": "True"}]}}, node_shape)
    assert refusal.value.message == "map: map[status:True] does not contain declared merge key: type"
