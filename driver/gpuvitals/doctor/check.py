"""One check and its result: contained, and with a deadline."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """SKIPPED: the check could not be made, or does not apply; the detail has why."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. `advice` is the next step for a person; every FAIL has one.

    `facts` are the values behind the line, for programs.
    """

    name: str
    outcome: Outcome
    detail: str
    advice: str = ""
    facts: dict[str, object] = field(default_factory=dict)


def ok(name: str, detail: str, **facts: object) -> Finding:
    """Nothing to do."""
    return Finding(name=name, outcome=Outcome.OK, detail=detail, facts=facts)


def warn(name: str, detail: str, advice: str, **facts: object) -> Finding:
    """Works, with less than it could."""
    return Finding(name=name, outcome=Outcome.WARN, detail=detail, advice=advice, facts=facts)


def fail(name: str, detail: str, advice: str, **facts: object) -> Finding:
    """The agent can't do its work."""
    return Finding(name=name, outcome=Outcome.FAIL, detail=detail, advice=advice, facts=facts)


def skipped(name: str, why: str) -> Finding:
    """Not checked."""
    return Finding(name=name, outcome=Outcome.SKIPPED, detail=why)


def examined(name: str, look: Callable[[], Iterable[Finding]], seconds: float) -> tuple[Finding, ...]:
    """The findings of `look`; one that fails where it raises, or does not return in time.

    A look that hangs is left behind on a daemon thread.
    """
    found: list[Finding] = []
    broken: list[Exception] = []

    def run() -> None:
        try:
            found.extend(look())
        except Exception as error:  # noqa: BLE001 - one check must not end the others; it is reported
            broken.append(error)

    thread = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return (fail(name, f"no result within {seconds:g} s", "look for a hung driver call or a dead mount"),)
    for error in broken:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return (*found, fail(name, f"the check itself failed: {text}", "report this with the line"))
    return tuple(found)
