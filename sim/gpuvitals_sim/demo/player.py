"""Plays a scenario on a running cluster and yields what happened, in order.

Place in the chain: between the scenario and the narrator. It stops at the first expectation that did not hold, since
what follows builds on it.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gpuvitals_sim.demo.actor import Actor
from gpuvitals_sim.demo.observer import Observer, Sight
from gpuvitals_sim.scenario import Scenario, Step
from gpuvitals_sim.scenario.actions import Mark
from gpuvitals_sim.scenario.expectations import Expect
from gpuvitals_sim.scenario.story import Action

_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBegins:
    """A step, numbered from 1."""

    number: int
    step: Step


@dataclass(frozen=True, slots=True)
class Done:
    """An action was done."""

    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """An expectation was looked at until it held or its time was over; `seconds` since the last action was done."""

    expect: Expect
    sight: Sight
    seconds: float


Happening = StepBegins | Done | Looked


class Player:
    """Plays once. When `stopping` is set it ends where it is, in the middle of a step."""

    def __init__(self, actor: Actor, observer: Observer, stopping: threading.Event) -> None:
        self._actor = actor
        self._observer = observer
        self._stopping = stopping

    def play(self, scenario: Scenario) -> Iterator[Happening]:
        """Everything that happens; ends early behind an expectation that did not hold."""
        for number, step in enumerate(scenario.steps, start=1):
            yield StepBegins(number=number, step=step)
            for happening in self._step(step):
                if self._stopping.is_set():
                    return
                yield happening
                if isinstance(happening, Looked) and not happening.sight.holds:
                    return

    def _step(self, step: Step) -> Iterator[Happening]:
        self._observer.mark()
        acted_at = time.monotonic()
        for entry in step.do:
            what = entry.what
            if isinstance(what, Expect):
                sight = self._stays(what) if what.holds is not None else self._becomes(what)
                yield Looked(expect=what, sight=sight, seconds=time.monotonic() - acted_at)
                continue
            if isinstance(what, Mark):
                self._observer.mark()
            self._actor.do(what)
            acted_at = time.monotonic()
            yield Done(what)

    def _becomes(self, wanted: Expect) -> Sight:
        """The first sight that holds, or the last one within the time, or that an agent has ended by itself."""
        until = time.monotonic() + wanted.within
        while True:
            # Asked first: what an agent has written before it ended is seen by the look.
            ended = self._observer.ended()
            sight = self._observer.look(wanted.subject)
            if ended and not sight.holds:
                return Sight(False, f"{ended}; {sight.seen}")
            if sight.holds or time.monotonic() >= until or self._stopping.wait(_LOOK_SECONDS):
                return sight

    def _stays(self, wanted: Expect) -> Sight:
        """The first sight that does not hold, or the last one of the time, or that an agent has ended by itself."""
        until = time.monotonic() + (wanted.holds or 0.0)
        while True:
            ended = self._observer.ended()
            sight = self._observer.look(wanted.subject)
            if ended:
                return Sight(False, f"{ended}; {sight.seen}")
            if not sight.holds or time.monotonic() >= until or self._stopping.wait(_LOOK_SECONDS):
                return sight
