"""One check and its findings. A check runs with a deadline, and its errors become findings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from gpuvitals.stoppable_thread import StoppableThread


class Outcome(Enum):
    """The outcome of a check. SKIPPED: it could not run or does not apply, for the reason in the detail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. `advice` is the next step for a person, present in every FAIL.

    `facts` are the measured values, for programs.
    """

    name: str
    outcome: Outcome
    detail: str
    advice: str = ""
    facts: dict[str, object] = field(default_factory=dict)


def ok(name: str, detail: str, **facts: object) -> Finding:
    """A finding that needs no action."""
    return Finding(name=name, outcome=Outcome.OK, detail=detail, facts=facts)


def warn(name: str, detail: str, advice: str, **facts: object) -> Finding:
    """A finding that limits the agent."""
    return Finding(name=name, outcome=Outcome.WARN, detail=detail, advice=advice, facts=facts)


def fail(name: str, detail: str, advice: str, **facts: object) -> Finding:
    """A finding with which the agent can't work."""
    return Finding(name=name, outcome=Outcome.FAIL, detail=detail, advice=advice, facts=facts)


def skipped(name: str, reason: str) -> Finding:
    """A finding of a check that was not made."""
    return Finding(name=name, outcome=Outcome.SKIPPED, detail=reason)


def findings(name: str, check: Callable[[], Iterable[Finding]], seconds: float) -> tuple[Finding, ...]:
    """The findings of `check`, with a FAIL added if it raises or does not finish within `seconds`.

    A check that hangs stays behind on a daemon thread.
    """
    found: list[Finding] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            found.extend(check())
        except Exception as error:  # noqa: BLE001 - reported as a finding; the other checks go on
            errors.append(error)

    thread = StoppableThread(run, name=f"doctor-{name}", daemon=True)
    thread.start()
    if not thread.stop(seconds):  # a check reads no stop event: this only waits for its end
        return (fail(name, f"no result within {seconds:g} s", "look for a hung driver call or a dead mount"),)
    for error in errors:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return (*found, fail(name, f"the check itself failed: {text}", "report this with the line"))
    return tuple(found)
