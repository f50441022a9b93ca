"""The rate limit of each field of the verdict; a new field must be added to one of the groups."""

from dataclasses import fields, replace

import pytest

from gpuvitals.health.publication import worth_publishing
from gpuvitals.model.health import (
    Confidence,
    HealthClass,
    HealthState,
    NvlinkStatus,
    Phase,
    RowRemap,
    Verdict,
)
from gpuvitals.model.ids import GpuUuid, Reason
from support.signals import POLICY, fold, good, judge, moment, xid

HEALTHY = judge(fold(good(1000)), 1000)
NEWS = {
    "state": HealthState.DEGRADED,
    "phase": Phase.SUSPECT,
    "health_class": HealthClass.MEDIUM,
    "reason": Reason("Xid94"),
    "definitive": True,
    "xid_errors": 1,
}
WORDS = {
    "last_xid": 94,
    "nvlink_status": NvlinkStatus.DEGRADED,
    "ecc_uncorrected": 1,
    "row_remap": RowRemap.PENDING,
    "recovery_action": "Unknown",
}
GOES_ALONG = {
    "message": "another text",
    "last_fault_time": moment(2000).time,
    "nvlink_bandwidth_percent": 94,
    "coverage": 90,
    "confidence": Confidence.DRIVER,
}


def test_every_field_of_the_verdict_is_news_or_goes_along() -> None:
    assert {field.name for field in fields(Verdict)} == {
        "uuid",
        "score",
        *NEWS,
        *WORDS,
        *GOES_ALONG,
    }


@pytest.mark.parametrize("name", NEWS)
def test_news_is_told_at_once(name: str) -> None:
    changed = replace(HEALTHY, **{name: NEWS[name]})  # type: ignore[arg-type]  # a table of fields

    assert worth_publishing(HEALTHY, changed, 0, POLICY)
    assert worth_publishing(changed, HEALTHY, 0, POLICY)


@pytest.mark.parametrize("name", WORDS)
def test_a_word_that_a_reading_may_turn_back_is_told_once_in_thirty_seconds(name: str) -> None:
    changed = replace(HEALTHY, **{name: WORDS[name]})  # type: ignore[arg-type]  # a table of fields

    for before, after in ((HEALTHY, changed), (changed, HEALTHY)):
        assert not worth_publishing(before, after, POLICY.publish_interval_seconds - 1, POLICY)
        assert worth_publishing(before, after, POLICY.publish_interval_seconds, POLICY)


def test_what_the_driver_asks_for_is_told_at_once_and_that_it_asks_no_more_is_not() -> None:
    asking = replace(HEALTHY, recovery_action="ResetGpu")

    assert worth_publishing(HEALTHY, asking, 0, POLICY)
    assert worth_publishing(asking, replace(asking, recovery_action="RebootNode"), 0, POLICY)
    assert not worth_publishing(asking, HEALTHY, 0, POLICY)


@pytest.mark.parametrize("name", GOES_ALONG)
def test_what_goes_along_is_never_told_by_itself(name: str) -> None:
    changed = replace(HEALTHY, **{name: GOES_ALONG[name]})  # type: ignore[arg-type]  # a table of fields

    assert not worth_publishing(HEALTHY, changed, 1e9, POLICY)


def test_one_memory_error_more_is_no_news() -> None:
    assert not worth_publishing(
        replace(HEALTHY, ecc_uncorrected=1), replace(HEALTHY, ecc_uncorrected=900), 1e9, POLICY
    )


def test_a_first_verdict_is_told_and_the_same_one_once() -> None:
    assert worth_publishing(None, HEALTHY, 0, POLICY)
    assert not worth_publishing(HEALTHY, HEALTHY, 1e9, POLICY)


@pytest.mark.parametrize(
    ("before", "after", "seconds", "told"),
    [
        (100, 96, 1e9, False),
        (100, 95, 29, False),
        (100, 95, 30, True),
        (91, 96, 3599, False),
        (91, 96, 3600, True),
        (91, 95, 1e9, False),
    ],
    ids=["small", "too soon", "a step down", "healing, too soon", "healing", "healing by little"],
)
def test_the_score_alone_is_told_by_steps_and_not_too_often(
    before: int, after: int, seconds: float, told: bool
) -> None:
    verdicts = replace(HEALTHY, score=before), replace(HEALTHY, score=after)

    assert worth_publishing(*verdicts, seconds, POLICY) is told


def test_the_score_goes_along_with_a_fault_at_once() -> None:
    failed = judge(fold(good(1000), xid(79, 1001)), 1001)

    assert worth_publishing(
        replace(HEALTHY, uuid=GpuUuid("GPU-x")), replace(failed, uuid=GpuUuid("GPU-x")), 0, POLICY
    )
