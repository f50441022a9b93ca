"""The page of faults tells the truth: no number is missing, and the tests that it names exist."""

import pytest

from support.namedtests import ROOT, missing_tests, named_tests, rows

PAGE = ROOT / "docs" / "reference" / "faults.md"


def test_every_test_that_is_named_exists() -> None:
    assert missing_tests(PAGE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("title", "numbers"),
    [
        ("Faults", [f"F{number}" for number in range(38, 48)]),
        ("Bad inputs", [f"I{number}" for number in range(14, 24)]),
    ],
)
def test_each_number_is_there_once_with_what_is_done_and_a_test_that_shows_it(
    title: str, numbers: list[str]
) -> None:
    listed = rows(PAGE, title)

    assert [cells[0] for cells in listed] == numbers
    assert all(len(cells) == 4 and all(cells) for cells in listed)
    assert all(named_tests(cells[3]) for cells in listed)
