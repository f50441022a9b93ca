"""JSON patch (RFC 6902), as strict as the real server's."""

from typing import Any

import pytest

from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.apiserver.patching.json_patch import apply_json_patch

WORKS: list[tuple[str, Any, list[dict[str, Any]], Any]] = [
    ("add a field", {}, [{"op": "add", "path": "/a", "value": 1}], {"a": 1}),
    ("add replaces", {"a": 0}, [{"op": "add", "path": "/a", "value": 1}], {"a": 1}),
    ("insert into a list", {"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
    ("append", {"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
    ("remove", {"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ("remove an item", {"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
    ("replace", {"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
    ("escaped path", {"a/b": {"c~d": 1}}, [{"op": "remove", "path": "/a~1b/c~0d"}], {"a/b": {}}),
    ("move", {"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
    ("copy", {"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
    ("test holds", {"a": {"b": 1}}, [{"op": "test", "path": "/a", "value": {"b": 1}}], {"a": {"b": 1}}),
    ("replace sets", {}, [{"op": "replace", "path": "/a", "value": 1}], {"a": 1}),
    ("nothing is null", {}, [{"op": "test", "path": "/a", "value": None}], {}),
    ("replace the whole", {"a": 1}, [{"op": "replace", "path": "", "value": {}}], {}),
]
FAILS: list[tuple[str, Any, Any, int]] = [
    ("no list", {}, {"op": "add"}, 400),
    ("unknown operation", {}, [{"op": "shift", "path": "/a"}], 422),
    ("test fails", {"a": 1}, [{"op": "test", "path": "/a", "value": 2}], 422),
    ("true is not one", {"a": 1}, [{"op": "test", "path": "/a", "value": True}], 422),
    ("parent is missing", {}, [{"op": "add", "path": "/a/b", "value": 1}], 422),
    ("append to nothing", {}, [{"op": "add", "path": "/a/-", "value": 1}], 422),
    ("remove of nothing", {}, [{"op": "remove", "path": "/a"}], 422),
    ("index too high", {"a": [1]}, [{"op": "add", "path": "/a/5", "value": 1}], 422),
    ("index with a zero", {"a": [1, 2]}, [{"op": "remove", "path": "/a/01"}], 422),
]


@pytest.mark.parametrize(
    ("document", "patch", "expected"), [case[1:] for case in WORKS], ids=[case[0] for case in WORKS]
)
def test_the_patch_gives_the_expected_document(document: Any, patch: Any, expected: Any) -> None:
    assert apply_json_patch(document, patch) == expected


@pytest.mark.parametrize(
    ("document", "patch", "code"), [case[1:] for case in FAILS], ids=[case[0] for case in FAILS]
)
def test_a_patch_that_does_not_fit_is_refused(document: Any, patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as refusal:
        apply_json_patch(document, patch)
    assert refusal.value.code == code


def test_the_document_itself_is_left_alone() -> None:
    document = {"a": [1]}
    apply_json_patch(document, [{"op": "add", "path": "/a/-", "value": 2}])
    assert document == {"a": [1]}
