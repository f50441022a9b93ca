"""The demo's output: for each step its title, actions, expectations, observations and durations.

Place in the chain: formats the progress of the scenario runner as lines.
"""

import textwrap
from collections.abc import Iterator

from gpuvitals_sim.demo.descriptions import action_text, expectation_text
from gpuvitals_sim.demo.scenario_runner import ActionDone, ExpectationChecked, Progress, StepStarted
from gpuvitals_sim.scenario import Scenario

_WIDTH = 110
_INDENT = " " * 15


class ConsoleReport:
    """Formats one run and counts its expectations. `failed` is set once an expectation did not hold."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._steps = 0
        self._checked = 0
        self.failed = False

    def opening(self) -> Iterator[str]:
        """The heading: scenario, cluster, policy values."""
        nodes = self._scenario.nodes
        yield f"gpuvitals demo: {self._scenario.name}"
        yield from _wrapped(self._scenario.description, "")
        count = f"{nodes.count} nodes" if nodes.count > 1 else "1 node"
        yield from _wrapped(
            f"{count} with {nodes.gpus} simulated GPUs each. Real: the agents (one process per node, with its NVML worker), "
            "the kubelet's protocols over Unix sockets, the Kubernetes API over HTTP. Simulated: hardware, kubelet, "
            "scheduler and API server.",
            "",
        )
        if self._scenario.policy:
            values = ", ".join(f"{name}={value}" for name, value in self._scenario.policy.items())
            yield f"Shortened for the demo: {values}."

    def lines(self, progress: Progress) -> Iterator[str]:
        """The lines of one progress item."""
        match progress:
            case StepStarted(number=number, step=step):
                self._steps = number
                yield ""
                yield f"{number}/{len(self._scenario.steps)} {step.title}"
                if step.about:
                    yield from _wrapped(step.about, "    ")
            case ActionDone(action=action):
                line = action_text(action)
                if line:
                    yield from _wrapped(f"-> {line}", "    ", "       ")
            case ExpectationChecked(expect=wanted, observation=observation, seconds=seconds):
                self._checked += 1
                self.failed |= not observation.holds
                mark = "ok  " if observation.holds else "FAIL"
                yield from _wrapped(f"{mark} {seconds:6.2f} s {expectation_text(wanted)}", "  ", _INDENT)
                yield from _wrapped(f"seen: {observation.observed}", _INDENT)

    def closing(self, seconds: float) -> Iterator[str]:
        """The summary."""
        total = len(self._scenario.steps)
        yield ""
        if self.failed:
            yield f"an expectation of step {self._steps} did not hold; the rest was not played"
        else:
            yield f"all {self._checked} expectations of {total} steps held, in {seconds:.0f} s"


def _wrapped(text: str, indent: str, following: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if following is None else following,
        break_long_words=False,
        break_on_hyphens=False,
    )
