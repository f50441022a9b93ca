"""The page of the kubelet's contract tells the truth: its tests exist, its numbers are whole, its count is right."""

import pytest

from support.named_tests import ROOT, missing_tests, named_tests, rows

PAGE = ROOT / "docs" / "reference" / "kubelet-contract.md"
SHOWN = {"sim": {"sim"}, "both": {"sim", "real"}, "real": {"real"}}


def places(path: str) -> set[str]:
    """The parts on which a test runs."""
    if path.startswith(("tests/cluster/", "tests/chart/test_admission", "tests/chart/test_install")):
        return {"real"}
    return {"sim", "real"} if path.startswith("tests/contract/") else {"sim"}


def test_every_test_that_is_named_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(named_tests(text)) > 200
    assert missing_tests(text) == []


def test_each_check_is_there_once_and_is_shown_where_the_page_says() -> None:
    checks = rows(PAGE, "The checks")
    assert [int(cells[0]) for cells in checks] == list(range(1, 89))
    for number, _, shown, text in checks:
        assert shown in SHOWN, number
        found = set[str]().union(*(places(path) for path, _ in named_tests(text)))
        assert found == SHOWN[shown], number


@pytest.mark.parametrize(
    "title",
    [
        "Behaviour of the real kubelet, and the driver's reaction",
        "Faults of others that must not be ours",
    ],
)
def test_the_other_tables_name_a_test_or_a_reason_in_every_row(title: str) -> None:
    listed = rows(PAGE, title)
    assert len(listed) > 20
    assert all(len(cells) == 3 and all(cells) for cells in listed)


def test_the_count_at_the_top_is_that_of_the_table() -> None:
    shown = [cells[2] for cells in rows(PAGE, "The checks")]
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    sim, both, real = (shown.count(word) for word in SHOWN)
    told = f"{sim} are shown on the simulation, {both} on both and {real} on the real thing alone."
    assert f"Of the 88 checks {told}" in text


def test_no_path_or_host_of_a_machine_is_on_the_page() -> None:
    assert "://" not in PAGE.read_text(encoding="utf-8")
