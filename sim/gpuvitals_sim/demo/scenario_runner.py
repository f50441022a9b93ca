"""Plays a scenario on a running cluster and yields its progress.

Place in the chain: between the scenario and the report. It stops at the first expectation that did not hold, since later
steps depend on it.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gpuvitals_sim.demo.action_runner import ActionRunner
from gpuvitals_sim.demo.observer import Observation, Observer
from gpuvitals_sim.scenario import Scenario, Step
from gpuvitals_sim.scenario.actions import Mark
from gpuvitals_sim.scenario.expectations import Expect
from gpuvitals_sim.scenario.model import Action

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step has started; steps are numbered from 1."""

    number: int
    step: Step


@dataclass(frozen=True, slots=True)
class ActionDone:
    """An action was done."""

    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationChecked:
    """An expectation was polled until it held or its time was over; `seconds` since the last action."""

    expect: Expect
    observation: Observation
    seconds: float


Progress = StepStarted | ActionDone | ExpectationChecked


class ScenarioRunner:
    """Plays one scenario. It ends in the middle of a step when `stopping` is set."""

    def __init__(self, actions: ActionRunner, observer: Observer, stopping: threading.Event) -> None:
        self._actions = actions
        self._observer = observer
        self._stopping = stopping

    def play(self, scenario: Scenario) -> Iterator[Progress]:
        """The progress; it ends early after an expectation that did not hold."""
        for number, step in enumerate(scenario.steps, start=1):
            yield StepStarted(number=number, step=step)
            for progress in self._step(step):
                if self._stopping.is_set():
                    return
                yield progress
                if isinstance(progress, ExpectationChecked) and not progress.observation.holds:
                    return

    def _step(self, step: Step) -> Iterator[Progress]:
        self._observer.mark()
        acted_at = time.monotonic()
        for entry in step.do:
            content = entry.content
            if isinstance(content, Expect):
                observation = (
                    self._check_it_stays_true(content)
                    if content.holds is not None
                    else self._wait_until_true(content)
                )
                yield ExpectationChecked(
                    expect=content, observation=observation, seconds=time.monotonic() - acted_at
                )
                continue
            if isinstance(content, Mark):
                self._observer.mark()
            self._actions.run(content)
            acted_at = time.monotonic()
            yield ActionDone(content)

    def _wait_until_true(self, wanted: Expect) -> Observation:
        """The first observation that holds, or the last one within the time, or the end of an agent."""
        until = time.monotonic() + wanted.within
        while True:
            # Read first, so that the observation includes the last writes of an agent that has ended.
            ended = self._observer.ended()
            observation = self._observer.observe(wanted.subject)
            if ended and not observation.holds:
                return Observation(False, f"{ended}; {observation.observed}")
            if observation.holds or time.monotonic() >= until or self._stopping.wait(_POLL_SECONDS):
                return observation

    def _check_it_stays_true(self, wanted: Expect) -> Observation:
        """The first observation that does not hold, or the last one of the time, or the end of an agent."""
        until = time.monotonic() + (wanted.holds or 0.0)
        while True:
            ended = self._observer.ended()
            observation = self._observer.observe(wanted.subject)
            if ended:
                return Observation(False, f"{ended}; {observation.observed}")
            if not observation.holds or time.monotonic() >= until or self._stopping.wait(_POLL_SECONDS):
                return observation
