"""The page of faults tells the truth: each row says what is done, and the tests that it names exist."""

import pytest

from support.named_tests import ROOT, missing_tests, named_tests, rows

PAGE = ROOT / "docs" / "reference" / "faults.md"


def test_every_test_that_is_named_exists() -> None:
    assert missing_tests(PAGE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("title", "least"), [("Faults", 10), ("Bad inputs", 10)])
def test_each_row_has_what_is_done_and_a_test_that_shows_it(title: str, least: int) -> None:
    listed = rows(PAGE, title)

    assert len(listed) >= least
    assert len({cells[0] for cells in listed}) == len(listed)
    assert all(len(cells) == 3 and all(cells) for cells in listed)
    assert all(named_tests(cells[2]) for cells in listed)
