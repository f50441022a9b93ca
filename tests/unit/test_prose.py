"""tools/check_prose.py counts headless clauses in every kind of prose, and `make check` holds the tree to its limit."""

from pathlib import Path

import pytest
from tools import check_prose


@pytest.mark.parametrize(
    ("name", "text", "clauses"),
    [
        ("docstring.py", 'def f():\n    """Returns what it was told."""\n', 1),
        ("comment.py", "x = 1  # whom it concerns\n", 1),
        ("message.py", 'print(f"node {1}: cannot tell who holds the GPU")\n', 1),
        ("short_string.py", 'LABELS = ("what", "who")\n', 0),
        ("name.py", "what = 1\nwhere_to = what\n", 0),
        ("page.md", "Where the driver is, is unknown.\n", 1),
        ("code_in_page.md", "`what` is a name.\n\n```\nwho am i\n```\n", 0),
        ("values.yaml", "# What it means.\nwhat: who\n", 1),
        ("plain.md", "The agent publishes one slice per node.\n", 0),
    ],
)
def test_each_kind_of_prose_is_counted(tmp_path: Path, name: str, text: str, clauses: int) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    assert sum(passage.clauses for passage in check_prose.passages(path)) == clauses


def test_the_rate_is_per_thousand_words() -> None:
    found = [check_prose.Passage(1, "word " * 996 + "what who whom where")]

    assert check_prose.rate(found) == 4.0
    assert check_prose.rate([]) == 0.0


def test_an_area_above_the_limit_fails_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.md").write_text("The agent publishes one slice per node.\n", encoding="utf-8")
    (tmp_path / "bad.md").write_text("It is what it is.\n", encoding="utf-8")
    monkeypatch.setattr(check_prose, "ROOT", tmp_path)
    monkeypatch.setattr(check_prose, "AREAS", ("good.md", "bad.md"))

    assert check_prose.main([]) == 1
    assert capsys.readouterr().out == "bad.md: 200.0 headless clauses per 1,000 words (at most 3)\n"


def test_given_paths_print_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.md").write_text("Fine.\n\nIt is what it is.\n", encoding="utf-8")
    monkeypatch.setattr(check_prose, "ROOT", tmp_path)

    assert check_prose.main(["bad.md"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "bad.md:3: It is what it is."
