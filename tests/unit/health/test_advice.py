"""The advice for each XID, against NVIDIA's catalogue row by row."""

import csv

import pytest

from gpuvitals.health.advice import IMMEDIATE, INVESTIGATORY, UNLISTED, nvidia_actions, xid_advice
from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.reasons import operator_advice
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import DECODED_XIDS, xid_rule
from gpuvitals.model.ids import Reason
from support.named_tests import ROOT
from support.signals import fold, good, judge, xid

with (ROOT / "tools" / "data" / "xid-catalog.csv").open(newline="", encoding="utf-8") as file:
    ROWS = {int(row["xid"]): row for row in csv.DictReader(file)}
USED = sorted(code for code, row in ROWS.items() if row["category"] != "unused")

MUST = {
    "IGNORE": "no immediate action",
    "RESTART_APP": "restart the application",
    "WORKFLOW_XID_45": "restart the fabric manager",
    "RESET_GPU": "reset the GPU",
    "WORKFLOW_XID_48": "reset the GPU",
    "WORKFLOW_NVLINK_ERR": "decode",
    "WORKFLOW_NVLINK5_ERR": "decode",
    "RESTART_BM": "restart the machine",
    "RESTART_VM": "restart the virtual machine",
    "CHECK_MECHANICALS": "power cables",
    "CONTACT_SUPPORT": "contact NVIDIA support",
    "UPDATE_SWFW": "update the driver",
    "CHECK_UVM": "reset the GPU if unified memory or vGPU is in use",
    "XID_154": "perform the recovery action that the line names",
    "": "recovery action",
}
RESETS = {"RESET_GPU", "WORKFLOW_XID_48", "CHECK_UVM"}


def test_every_action_of_the_catalogue_has_words() -> None:
    assert {row["immediate_action"] for row in ROWS.values()} == IMMEDIATE.keys() == MUST.keys()
    assert {row["investigatory_action"] for row in ROWS.values()} == INVESTIGATORY.keys()


@pytest.mark.parametrize("code", USED)
def test_the_advice_is_nvidias_immediate_action_and_then_its_investigatory_one(code: int) -> None:
    """Finding L7"""
    row, advice = ROWS[code], xid_advice(code)
    immediate, then = row["immediate_action"], row["investigatory_action"]

    assert advice.startswith(IMMEDIATE[immediate])
    assert MUST[immediate] in advice
    assert advice.endswith(INVESTIGATORY[then] or advice)
    assert ("support" in advice) is ("CONTACT_SUPPORT" in (immediate, then) or "REPORT" in then)
    assert ("investigate the software" in advice) is then.startswith("INVESTIGATE_SW")
    if immediate not in RESETS and code not in (63, 94):
        assert "reset" not in advice
    assert "replace" not in advice
    assert (CATALOG[code].bucket, CATALOG[code].investigatory) == (immediate, then)


@pytest.mark.parametrize("code", USED)
def test_the_page_of_reasons_has_the_same_row(code: int) -> None:
    """Finding L7"""
    page = (ROOT / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")
    (line,) = [each for each in page.splitlines() if each.startswith(f"| Xid{code} |")]
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]

    row = ROWS[code]
    actions = f"{row['immediate_action'] or 'none'}, {row['investigatory_action'] or 'none'}"
    assert cells[4:] == [xid_advice(code), actions]
    assert nvidia_actions(code) == actions


@pytest.mark.parametrize("code", [0, 1, 9, 42, 61, 999, 60_000])
def test_a_code_that_the_catalogue_lacks_or_has_no_use_for_is_looked_up(code: int) -> None:
    assert xid_advice(code) == UNLISTED


@pytest.mark.parametrize("code", USED)
def test_a_verdict_is_advised_like_its_code_unless_words_on_the_line_decide(code: int) -> None:
    """Finding L7"""
    state = fold(good(1000), xid(code, 1001))
    judged = judge(state, 1001)
    cause = state.fault(judged.reason)

    if cause is not None:
        assert operator_advice(judged.reason, cause.rule) == xid_advice(code)
    assert operator_advice(Reason(f"Xid{code}"), None) == xid_advice(code)


@pytest.mark.parametrize("code", sorted(DECODED_XIDS))
def test_a_decoded_code_has_the_advice_of_its_decode(code: int) -> None:
    """Finding L7"""
    mild = xid_rule(xid(code, 0))
    advised = {
        fault_class: xid_advice(
            code,
            type(mild)(
                reason=mild.reason,
                fault_class=fault_class,
                clearing=mild.clearing,
                severity_percent=0,
                meaning="",
            ),
        )
        for fault_class in FaultClass
    }

    assert "reset the GPU" in advised[FaultClass.A]
    assert "cables" in advised[FaultClass.B]
    assert "restart the application" in advised[FaultClass.C]
    assert advised[FaultClass.NONE] == "nothing"
    assert advised[FaultClass.B0] == xid_advice(code)
