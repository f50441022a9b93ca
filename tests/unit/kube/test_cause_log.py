"""One log line a cause and minute, whatever fails and however often."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Refused, Retryable, error_from_answer

LOG = logging.getLogger("tests.causes")


def lines(caplog: pytest.LogCaptureFixture, during: Callable[[CauseLog], None], seconds: float = 60.0) -> int:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger=LOG.name):
        during(CauseLog(LOG, "not written", seconds=seconds))
    return len(caplog.records)


def fail(errors: list[ApiError]) -> Callable[[CauseLog], None]:
    def during(log: CauseLog) -> None:
        for error in errors:
            log.failed(error)

    return during


def test_two_errors_that_alternate_are_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Finding K6."""
    errors = [Retryable("x", status=503), Refused("y", status=403)] * 200

    assert lines(caplog, fail(errors)) == 2


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([f"GET /a: no answer: port {port}" for port in range(99)], id="ports"),
        pytest.param(
            [f"GET /a: no answer: <object at 0x7f{index:08x}>" for index in range(99)], id="addresses"
        ),
        pytest.param([f"PATCH /c-{index}: no answer: timed out" for index in range(99)], id="objects"),
    ],
)
def test_what_differs_from_call_to_call_is_no_other_cause(
    caplog: pytest.LogCaptureFixture, texts: list[str]
) -> None:
    """Finding K6."""
    assert lines(caplog, fail([Retryable(text) for text in texts])) == 1


def test_answers_that_name_their_object_are_one_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Finding K6: a webhook that denies every claim of a node."""
    errors = [
        error_from_answer(
            403,
            b'{"reason":"Forbidden","message":"resourceclaims \\"c-%d\\" is forbidden: no (try %d)"}'
            % (index, index),
            None,
            f"PATCH /apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c-{index}/status",
        )
        for index in range(50)
    ]

    assert lines(caplog, fail(errors)) == 1


def test_a_cause_is_logged_again_after_its_minute_with_the_count_in_between(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Finding K6."""
    caplog.clear()
    log = CauseLog(LOG, "not written", seconds=0.0)
    with caplog.at_level(logging.INFO, logger=LOG.name):
        log.failed(Retryable("x", status=503))
        log._seconds = 60.0
        log.failed(Retryable("x", status=503))
        log.failed(Retryable("x", status=503))
        log._seconds = 0.0
        log.failed(Retryable("x", status=503))

    assert len(caplog.records) == 2
    assert "'unlogged': 2" in str(caplog.records[1].__dict__)


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=8), max_size=300))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_number_of_causes_is_a_bounded_number_of_lines(
    caplog: pytest.LogCaptureFixture, words: list[str]
) -> None:
    """Finding K6."""
    assert lines(caplog, fail([Retryable(word, status=500) for word in words])) <= 33
