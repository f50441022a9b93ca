"""The documents tell the truth about the tree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:driver|tests|docs|api|tools)/[A-Za-z0-9_./-]+)`", text))
    named |= set(re.findall(r"\]\(((?!http)[^)#]+)\)", text))

    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_every_verb_that_the_readme_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(
        re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )

    assert verbs
    assert [verb for verb in verbs if f"\n{verb}:" not in makefile] == []


def test_no_module_has_more_than_400_lines() -> None:
    generated = {"xid_catalog.py"}
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "driver").rglob("*.py")
        if "proto" not in path.parts and path.name not in generated
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }

    assert long == {}


def test_adr_numbers_are_never_reused() -> None:
    numbers = [path.name[:3] for path in (ROOT / "docs" / "adr").glob("*.md")]

    assert len(numbers) == len(set(numbers))


def test_the_lock_has_no_url_and_no_deprecated_binding() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"^pynvml==", text, re.MULTILINE)


def test_nothing_is_named_by_a_number_of_a_list_that_the_tree_lacks() -> None:
    """Finding U7: such a number tells a reader nothing. Benchmarks and findings have pages of their own."""
    number = re.compile(r"\b(?:[FI][0-9]{1,2}|INV[0-9]+)\b|\btest_(?:f|i|inv)[0-9]+_")
    texts = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "driver").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    texts += [ROOT / page for page in (*PAGES, "CHANGELOG.md")]
    # A row of that page, and a docstring, has the number of a finding of its own list.
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts
        if path.name != "found.md" and "proto" not in path.parts and path != Path(__file__)
        for line in path.read_text(encoding="utf-8").splitlines()
        if "Finding" not in line
        for match in number.finditer(line)
    }

    assert found == set()


def test_no_name_of_a_test_has_more_than_80_characters() -> None:
    names = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert sorted(name for name in names if len(name) > 80) == []
