"""Pages that name tests: their tables as cells, and whether the tests that they name are there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def rows(page: Path, title: str) -> list[list[str]]:
    """The cells of the table below that heading."""
    text = page.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def named_tests(text: str) -> list[tuple[str, str]]:
    """The tests that a text names: file and function."""
    return NAMED.findall(text)


def missing_tests(text: str) -> list[str]:
    """The tests that a text names and the tree does not have."""
    return [
        f"{path}::{name}"
        for path, name in named_tests(text)
        if not (ROOT / path).exists() or name not in _functions(path)
    ]


@cache
def _functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
