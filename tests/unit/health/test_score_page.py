"""docs/reference/score.md agrees with the code."""

from fractions import Fraction

import pytest

from gpuvitals.health.score import HEAT, VERSION, Factors, health_class, product, score
from support.named_tests import ROOT, rows
from support.signals import POLICY

PAGE = ROOT / "docs" / "reference" / "score.md"


@pytest.mark.parametrize("cells", rows(PAGE, "Worked values"), ids=lambda cells: " ".join(cells))
def test_each_worked_value_is_what_the_formula_gives(cells: list[str]) -> None:
    xid, links, memory, heat = map(Fraction, cells[:4])
    inputs = Factors(xid=xid, links=links, memory=memory, heat_step=HEAT.index(heat))

    assert int(product(inputs) // 1) == int(cells[4])
    assert health_class(score(inputs)).value == cells[5]


def test_the_page_names_the_version_and_the_thresholds_in_force() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())

    assert f"This is version {VERSION};" in text
    assert f"within {POLICY.thermal_start_celsius} C of the slowdown point {float(HEAT[1])}" in text
    assert f"after it has lasted {POLICY.level_confirm_seconds} s, and until" in text
    assert f"until good readings have lasted {POLICY.level_clear_seconds} s" in text
    assert f"moved by {POLICY.publish_step} or more" in text
    assert f"once in {POLICY.publish_interval_seconds} s" in text
