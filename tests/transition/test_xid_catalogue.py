"""The whole of NVIDIA's catalogue: every code has a decided class and severity, and so has any code that is not in it."""

import csv
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.reasons import entries, is_reason
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.health import HealthState
from support.signals import fold, good, judge, xid

ROOT = Path(__file__).parents[2]
with (ROOT / "tools" / "data" / "xid-catalog.csv").open(encoding="utf-8", newline="") as file:
    ROWS = {int(row["xid"]): row for row in csv.DictReader(file)}

SEVERITIES = {
    FaultClass.A: {75, 100},
    FaultClass.B: {75},
    FaultClass.B0: {25, 50},
    FaultClass.C: {25},
    FaultClass.NONE: {0},
}
"""The weights in the score that a class allows. Source: the reference on remediation, section 7."""


def test_every_row_of_the_catalogue_is_here_with_its_bucket() -> None:
    assert CATALOG.keys() == ROWS.keys()
    for code, row in ROWS.items():
        assert CATALOG[code].bucket == row["immediate_action"], code
        assert CATALOG[code].unused == (row["category"] == "unused"), code


def test_every_code_has_a_class_and_a_severity_that_the_class_allows() -> None:
    for code in ROWS:
        rule = xid_rule(xid(code, 0))
        assert rule.severity_percent in SEVERITIES[rule.fault_class], code
        assert (rule.reason, bool(rule.meaning)) == (f"Xid{code}", True)


def test_every_code_in_use_that_shows_is_documented() -> None:
    documented = {entry.reason for entry in entries()}
    page = (ROOT / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")

    for code, row in ROWS.items():
        if row["category"] != "unused" and xid_rule(xid(code, 0)).fault_class is not FaultClass.NONE:
            assert f"Xid{code}" in documented
            assert f"Xid{code} " in page or f"`Xid{code}`" in page, code


def test_only_what_nvidia_has_reset_or_restart_isolates_by_number_alone() -> None:
    isolating = {code for code in ROWS if xid_rule(xid(code, 0)).fault_class is FaultClass.A}

    assert {ROWS[code]["immediate_action"] for code in isolating} == {
        "RESET_GPU",
        "RESTART_BM",
        "RESTART_VM",
        "WORKFLOW_XID_48",
    }


@given(
    code=st.integers(1, 65_535).filter(lambda number: number not in ROWS),
    times=st.lists(st.floats(1001, 90_000, allow_nan=False), min_size=1, max_size=12),
)
def test_a_code_never_seen_is_recorded_degrades_and_never_isolates(code: int, times: list[float]) -> None:
    last = max(times)
    state = fold(good(1000), *(xid(code, at) for at in sorted(times)), good(last + 1))
    judged = judge(state, last + 2)

    assert (judged.state, judged.reason, judged.last_xid) == (HealthState.DEGRADED, f"Xid{code}", code)
    assert judged.xid_errors == 1
    assert is_reason(judged.reason)
