"""The actions of a scenario on nodes, GPUs, pods and programs: one frozen model per action.

Place in the chain: `model.py` puts them into steps; `demo/action_runner.py` performs them.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gpuvitals_sim.scenario.types import Index, Line, Model, Name, Reading, Seconds, Text


class OnNode(Model):
    """An action on one node, numbered from 0."""

    node: Index


class OnGpu(OnNode):
    """One GPU: node and index in PCI order, both from 0."""

    gpu: Index


class Xid(OnGpu):
    """A kernel log line of an XID on this GPU, `repeat` times; `message` is the text after the code and `process`."""

    code: Annotated[int, Field(ge=1, le=999)]
    message: Line | None = None
    process: Line | None = None
    repeat: Annotated[int, Field(ge=1, le=1000)] = 1


class KernelLine(OnNode):
    """Any other line of the kernel log."""

    text: Line


class OffBus(OnGpu):
    """The GPU falls off the bus: PCI config space unreadable, XID 79 in the kernel log."""


class Lose(OnGpu):
    """NVML loses the GPU, and only this one."""


class SetReadings(OnGpu):
    """Readings of the scripted GPU, by the names that `hardware/gpu_changes.py` lists in READINGS."""

    readings: Annotated[dict[str, Reading], Field(min_length=1)]


class Reset(OnGpu):
    """A GPU reset that the agent can observe: counters zero, recovery action None, identity logged again."""


class Noise(Model):
    """Harmless events for a while, on one node or on all."""

    lasts: Seconds
    node: Index | None = None


class Toleration(Model):
    """A device toleration of a claim request."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "NoExecute"] | None = None


class SubRequest(Model):
    """One choice of a `firstAvailable` request."""

    name: Name
    selector: Text | None = None
    count: Annotated[int, Field(ge=1, le=32)] = 1
    tolerations: tuple[Toleration, ...] = ()


class Claim(Model):
    """The request of the pod's claim; the device class is the demo's. `first_available` replaces selector and count."""

    selector: Text | None = None
    count: Annotated[int, Field(ge=1, le=32)] = 1
    all_devices: bool = False
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()
    first_available: tuple[SubRequest, ...] = ()

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.first_available and (
            self.selector or self.count != 1 or self.all_devices or self.admin_access
        ):
            raise ValueError(
                "first_available stands alone: selector, count and the rest belong into its entries"
            )
        return self


class CreatePod(Model):
    """A pod with one claim from a template; `node` pins it."""

    name: Name
    claim: Claim = Claim()
    node: Index | None = None


class Restart(OnNode):
    """A program on the node is stopped and started again."""

    component: Literal["kubelet", "agent"]


class Kill(OnNode):
    """The agent gets SIGKILL, with all its children."""

    component: Literal["agent"]


class Start(OnNode):
    """The agent is started again after a kill."""

    component: Literal["agent"]


class Mark(Model):
    """Stores slices and write counts for `siblings` and `writes`."""
