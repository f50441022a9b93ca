"""Nothing is promised that no test shows, and every manifest is as the linter wants it."""

import ast
from pathlib import Path

import pytest

from gpuvitals.lint.findings import Level
from gpuvitals.lint.linter import LintSettings, lint
from support.worlds.example_cluster import CASES, ROOT, manifests, promises

HINTED = {"healthy-single": ["nvlink-none"]}
"""Hints that an example is meant to show."""


def shown() -> set[tuple[str, str]]:
    """Case and sentence of every call of `promised` in the tests beside this one."""
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "promised":
                case, text = (ast.literal_eval(argument) for argument in node.args)
                found.add((case, text))
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_promise_of_a_readme_is_shown_by_a_test(case: str) -> None:
    wanted = {(case, text) for text in promises(case)}

    assert wanted
    assert wanted - shown() == set()


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_clean_for_the_linter(case: str) -> None:
    found = lint({path.name: path.read_text(encoding="utf-8") for path in manifests(case)}, LintSettings())

    assert [str(one) for one in found if one.level == Level.FINDING.value] == []
    assert [one.rule for one in found] == HINTED.get(case, [])


def test_the_overview_lists_every_case() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [case for case in CASES if f"[{case}]({case}/README.md)" not in text] == []
