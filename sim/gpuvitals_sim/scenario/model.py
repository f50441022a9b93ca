"""A whole scenario: nodes, policy values, and steps whose entries are actions and expectations.

Place in the chain: the loader validates a file into a Scenario; the runner walks its steps.
"""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from gpuvitals.health.policy import Policy, policy_with
from gpuvitals_sim.scenario import actions
from gpuvitals_sim.scenario.expectations import Expect
from gpuvitals_sim.scenario.types import Model, Name, NonEmpty, PolicySeconds, Seconds, Text, one_of, only_one

_TITLE = Annotated[str, Field(min_length=1, max_length=100)]


class Wait(Model):
    """A pause of this length."""

    seconds: Seconds


class DeletePod(Model):
    """The pod is deleted, as by a user."""

    name: Name


Action = (
    actions.Xid
    | actions.KernelLine
    | actions.OffBus
    | actions.Lose
    | actions.SetReadings
    | actions.Reset
    | actions.Noise
    | Wait
    | actions.CreatePod
    | DeletePod
    | actions.Restart
    | actions.Kill
    | actions.Start
    | actions.Mark
)


class Entry(Model):
    """One entry of a step: exactly one key. `content` is its value as an action or an Expect."""

    xid: actions.Xid | None = None
    kernel_line: actions.KernelLine | None = None
    off_bus: actions.OffBus | None = None
    lose: actions.Lose | None = None
    set: actions.SetReadings | None = None
    reset: actions.Reset | None = None
    noise: actions.Noise | None = None
    wait: Seconds | None = None
    create_pod: actions.CreatePod | None = None
    delete_pod: Name | None = None
    restart: actions.Restart | None = None
    kill: actions.Kill | None = None
    start: actions.Start | None = None
    mark: actions.Mark | None = None
    expect: Expect | None = None

    @property
    def key(self) -> str:
        """The key that is set, as written in the file."""
        return one_of(*(name for name in type(self).model_fields if getattr(self, name) is not None))

    @property
    def content(self) -> Action | Expect:
        """The value of the key, typed."""
        if self.wait is not None:
            return Wait(seconds=self.wait)
        if self.delete_pod is not None:
            return DeletePod(name=self.delete_pod)
        value: Action | Expect = getattr(self, self.key)
        return value

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        only_one(self, tuple(type(self).model_fields))
        return self


class Step(Model):
    """One step. It begins with a mark."""

    title: _TITLE
    about: Text | None = None
    do: NonEmpty[Entry]


class Nodes(Model):
    """The number of nodes, and the number and profile (`hardware/profiles.py`) of their GPUs."""

    count: Annotated[int, Field(ge=1, le=16)] = 2
    gpus: Annotated[int, Field(ge=1, le=16)] = 8
    profile: Name = "h100"

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in the order of their numbers."""
        return tuple(f"node-{number}" for number in range(self.count))


class Scenario(Model):
    """A validated scenario."""

    name: Name
    description: Text
    nodes: Nodes = Nodes()
    policy: dict[str, PolicySeconds] = Field(default_factory=dict)
    steps: NonEmpty[Step]

    def health_policy(self) -> Policy:
        """The default policy with this scenario's values."""
        return policy_with(dict(self.policy))

    def entries(self) -> Iterator[tuple[tuple[str | int, ...], Entry]]:
        """Every entry with its place in the file."""
        for step_number, step in enumerate(self.steps):
            for number, entry in enumerate(step.do):
                yield ("steps", step_number, "do", number), entry
