"""docs/reference/found.md tells the truth: every finding has a row, and a test that carries its id."""

import ast
import re
from functools import cache

import pytest

from support.named_tests import ROOT

PAGE = ROOT / "docs" / "reference" / "found.md"
_NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::(\w+)(?:::(\w+))?)?`")
_LATER = {"R14", "R17", "C3", "C4", "C5", "C6", "D3", "D4"}
"""These close with later work."""
FINDINGS = [
    f"{table}{number}"
    for table, count in {"R": 18, "P": 9, "L": 12, "N": 7, "C": 6, "D": 4, "U": 7, "S": 3, "K": 12}.items()
    for number in range(1, count + 1)
    if f"{table}{number}" not in _LATER
]


def _rows() -> dict[str, str]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines[1:]}


@cache
def _docstrings(path: str) -> dict[str, str]:
    """The docstrings of a test file by function, the module's own under an empty name."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = {"": ast.get_docstring(tree) or ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.get_docstring(node) or ""
    return found


def test_every_finding_has_one_row_in_order() -> None:
    assert list(_rows()) == FINDINGS


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_test_of_the_row_carries_the_id(finding: str) -> None:
    named = _NAMED.findall(_rows()[finding])
    missing = [(path, name) for path, name, _ in named if name and name not in _docstrings(path)]
    texts = [
        text
        for path, name, inner in named
        for key, text in _docstrings(path).items()
        if not name or key in (name, inner)
    ]

    assert named
    assert missing == []
    assert any(re.search(rf"Findings? [^.]*\b{finding}\b", text) for text in texts)
