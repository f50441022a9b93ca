"""The text of external reports: both forms, and every kind of invalid text."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuvitals.model.signal import ExternalReport, ReportedState
from gpuvitals.signals.reports.text import (
    ReportError,
    Rules,
    reports_from_json,
    reports_from_lines,
)
from support.signals import moment

NOW = moment(1000)
PERSON = Rules(may_clear=True, must_expire=True)


def entry(**changes: Any) -> dict[str, Any]:
    """A good override of a minute ago, with other fields."""
    made = {
        "gpu": "gpu-0000-3b-00-0",
        "say": "bad",
        "by": "jane",
        "reason": "ticket 123",
        "at": (NOW.time - timedelta(minutes=1)).isoformat(),
        "expires": (NOW.time + timedelta(days=1)).isoformat(),
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def parsed(*entries: object, rules: Rules = PERSON) -> tuple[ExternalReport, ...]:
    return reports_from_json(json.dumps(entries).encode(), NOW, rules)


def test_lines_are_for_a_person_in_a_hurry() -> None:
    text = "gpu-0000-3b-00-0 bad ticket 123; GPU-1 degraded   slow in the burn-in\n# a remark\n\n"

    assert reports_from_lines(text, Rules(by="annotation")) == (
        ExternalReport(
            gpu="GPU-1", state=ReportedState.DEGRADED, by="annotation", reason="slow in the burn-in"
        ),
        ExternalReport(gpu="gpu-0000-3b-00-0", state=ReportedState.BAD, by="annotation", reason="ticket 123"),
    )


def test_an_override_says_who_why_since_when_and_until_when() -> None:
    assert parsed(entry()) == (
        ExternalReport(
            gpu="gpu-0000-3b-00-0",
            state=ReportedState.BAD,
            by="jane",
            reason="ticket 123",
            at=moment(940),
            expires=NOW.time + timedelta(days=1),
        ),
    )


@pytest.mark.parametrize("bus_id", ["0000:3B:00.0", "00000000:3B:00.0", "0000:3b:00.0"])
def test_a_bus_id_is_understood_as_nvidias_tools_print_it(bus_id: str) -> None:
    assert parsed(entry(gpu=bus_id))[0].gpu == "0000:3b:00.0"


def test_another_zone_is_the_same_instant() -> None:
    (report,) = parsed(entry(expires="2026-11-25T06:00:00+02:00"))

    assert report.expires == datetime(2026, 11, 25, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (entry(gpu="../etc"), "[0].gpu"),
        (entry(gpu="x" * 81), "[0].gpu"),
        (entry(say="worse"), "[0].say"),
        (entry(by=""), "[0].by"),
        (entry(by="x" * 65), "[0].by"),
        (entry(reason=""), "[0].reason"),
        (entry(reason="a\nb"), "[0].reason"),
        (entry(reason="\x1b[31m"), "[0].reason"),
        (entry(reason="x" * 201), "[0].reason"),
        (entry(expires=None), "[0].expires"),
        (entry(expires="2030-01-01T00:00:00Z"), "[0].expires"),
        (entry(expires="2026-12-01T00:00:00"), "[0].expires"),
        (entry(expires="tomorrow"), "[0].expires"),
        (entry(at="2026-12-01T00:00:00Z"), "[0].at"),
        (entry(say="clear", at=None), "[0].at"),
        (entry(ticket="123"), "[0]"),
        (entry(reason=7), "[0].reason"),
        ("bad", "[0]"),
    ],
)
def test_bad_input_names_the_field(bad: object, field: str) -> None:
    with pytest.raises(ReportError) as refused:
        parsed(bad)

    assert str(refused.value).startswith(f"{field}:")


@pytest.mark.parametrize("text", ["", "bad", "gpu-1 bad", "gpu-1 worse reason", "gpu-1\tbad"])
def test_a_line_that_says_nothing_is_refused_or_empty(text: str) -> None:
    if not text:
        assert reports_from_lines(text, Rules(by="x")) == ()
        return
    with pytest.raises(ReportError, match=r"^entry 1"):
        reports_from_lines(text, Rules(by="x"))


def test_a_gpu_is_named_once_and_their_number_is_bounded() -> None:
    with pytest.raises(ReportError, match="named twice"):
        parsed(entry(), entry(say="degraded"))
    with pytest.raises(ReportError, match="more than 64"):
        parsed(*(entry(gpu=f"gpu-{index}") for index in range(65)))


def test_only_a_persons_override_may_clear() -> None:
    assert parsed(entry(say="clear"))[0].state is ReportedState.CLEAR
    with pytest.raises(ReportError, match="only an override"):
        parsed(entry(say="clear"), rules=Rules(by="burn-in"))
    with pytest.raises(ReportError, match="only an override"):
        reports_from_lines("gpu-1 clear it is fine", Rules(by="annotation"))


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ReportError, match="the list: input data was truncated"):
        reports_from_json(b"[", NOW, PERSON)
