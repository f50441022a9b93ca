"""docs/guides/claims.md tells the truth: every block is linted, compiled, created or run, every table compared."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gpuvitals.cli.main import main
from gpuvitals.health.unusable import files_missing
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.taints import taints
from gpuvitals.lint.cel.facts import facts
from gpuvitals.lint.findings import RULES, Level
from gpuvitals.lint.linter import LintSettings, lint
from gpuvitals.lint.selectors import problems
from gpuvitals.lint.vocabulary import STANDARD, Attribute, Kind, Vocabulary
from gpuvitals.model.files import Lack
from gpuvitals.model.ids import Reason
from gpuvitals_sim.cel import CelDevice, CelError, compile_errors, compiled
from support.raw_api import RawApi
from support.realkube.answers import stored
from support.worlds.example_cluster import api_path, entry

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "claims.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
VOCABULARY = Vocabulary()
TYPES = {
    Kind.INT: "whole number",
    Kind.STRING: "string",
    Kind.VERSION: "version",
    Kind.QUANTITY: "quantity",
    Kind.BOOL: "bool",
}


def blocks(language: str) -> list[object]:
    """The blocks of a language, each with its first line as id."""
    return [
        pytest.param(text, id=f"{number}: {text.splitlines()[0]}")
        for number, (found, name, text) in enumerate(BLOCKS)
        if found == language and not name
    ]


def table(header: str) -> list[list[str]]:
    """The cells of the table that begins with this header."""
    lines = PAGE[PAGE.index(header) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_block_is_of_a_kind_that_a_test_looks_at() -> None:
    assert {language for language, _, _ in BLOCKS} == {"cel", "yaml", "console"}


@pytest.mark.parametrize("text", blocks("cel"))
def test_an_expression_of_the_page_is_right(text: str) -> None:
    found = [one.rule for one in problems(facts(text), VOCABULARY) if one.level is Level.FINDING]

    assert found == []
    assert compile_errors(text) is None


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_manifest_of_the_page_is_clean_and_accepted(api: RawApi, text: str) -> None:
    assert lint({"block": text}, LintSettings()) == []
    item = yaml.safe_load(text)
    if item["kind"] != "DeviceClass":
        item["metadata"]["namespace"] = "default"
    stored(api.post(api_path(item), item, fieldValidation="Strict"))
    api.delete(f"{api_path(item)}/{item['metadata']['name']}")


def test_commands_of_the_page_print_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _, name, text in BLOCKS:
        if name:
            (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    commands = [text for language, _, text in BLOCKS if language == "console"]
    for text in commands:
        command, _, said = text.partition("\n")
        program, *arguments = shlex.split(command.removeprefix("$ "))
        assert program == "gpuvitals"
        assert main(arguments) == 1
        assert capsys.readouterr().out == said
    assert commands


def whole(expression: str) -> str:
    """The expression with the page's abbreviations written out."""
    own = re.sub(r"\bown\b", 'device.attributes["gpu.vitals.internal"]', expression.strip("`"))
    return re.sub(r"\bh\.", 'device.attributes["health"].', own)


TRAPS = table("| Rule | You write |")


@pytest.mark.parametrize(("rule", "wrong", "effect", "right"), TRAPS, ids=[row[1] for row in TRAPS])
def test_a_trap_is_found_does_what_the_page_says_and_its_way_out_is_right(
    rule: str, wrong: str, effect: str, right: str
) -> None:
    bad, good = whole(wrong), whole(right)
    assert {one.rule for one in problems(facts(bad), VOCABULARY)} == {rule.strip("`")}
    assert list(problems(facts(good), VOCABULARY)) == []
    assert compile_errors(good) is None
    if "rejected" in effect:
        assert compile_errors(bad) is not None
    elif "fails the pod's scheduling" in effect:
        with pytest.raises(CelError):
            compiled(bad).matches(healthy_device())
    else:
        expected = "compiles, and is true" in effect
        assert compiled(bad).matches(healthy_device()) is expected or "without NVLink" in effect


def healthy_device() -> CelDevice:
    """A whole GPU as the selector sees it."""
    attributes = {
        "health/score": {"int": 99},
        "health/state": {"string": "Healthy"},
        "type": {"string": "gpu"},
    }
    attributes["health/nvlinkStatus"] = {"string": "active"}
    return CelDevice("gpu.vitals.internal", {"name": "gpu-0", "attributes": attributes})


def test_the_table_of_attributes_is_the_published_list() -> None:
    rows = {row[0]: row for row in table("| Key | Type | Always |")}
    known = {_shown(one): one for one in VOCABULARY.all()}

    assert set(rows) == set(known)
    for name, one in known.items():
        _, kind, always, _ = rows[name]
        assert always == ("yes" if one.always else "no"), name
        assert _fits(kind, one), (name, kind)


def _shown(one: Attribute) -> str:
    if one.which == "capacity":
        return f"`{one.key}` (capacity)"
    return f"`{one.domain}/{one.key}`" if one.domain in ("health", STANDARD) else f"`{one.key}`"


def _fits(kind: str, one: Attribute) -> bool:
    """Whether the cell names the type, its range, or all its values."""
    if kind.startswith("`"):
        return tuple(re.findall(r"`([^`]+)`", kind)) == one.values
    return kind == TYPES[one.kind] + (", 0 to 100" if one.highest == 100 else "")


def test_the_table_of_rules_is_the_linters() -> None:
    assert {row[0].strip("`"): row[1] for row in table("| Rule | Mistake |")} == RULES


def test_the_table_of_taints_is_what_the_agent_sets() -> None:
    rows = {row[0].strip("`"): row[1] for row in table("| Taint | Effect |")}
    shown = [entry(0, state) for state in ("failed", "degraded", "unknown")]
    well = entry(0)
    shown.append(
        replace(
            well,
            isolated=True,
            unprepared=files_missing(well.verdict, Lack(Reason("DeviceNodesMissing"), "no nvidia-uvm")),
        )
    )

    assert rows == {taint.key: taint.effect.value for each in shown for taint in taints(each, Naming())}
