"""The expectations of a scenario: the demo polls each and prints expectation, observation and duration.

Place in the chain: an entry of a step's `do` list, beside the actions.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gpuvitals_sim.scenario.actions import OnGpu, OnNode
from gpuvitals_sim.scenario.types import Index, Model, Name, Seconds, Status, one_of, only_one


class Condition(Model):
    """A status condition; omitted fields are not compared. `message` is a substring."""

    type: str
    status: Status
    reason: str | None = None
    message: str | None = None


class DeviceSeen(OnGpu):
    """A GPU in the ResourceSlice; `taint` is the part of the key after the driver's name, or "none"."""

    published: bool | None = None
    out: bool | None = None
    state: Literal["Healthy", "Degraded", "Unhealthy", "Unknown"] | None = None
    score: Annotated[int, Field(ge=0, le=100)] | None = None
    score_above: Annotated[int, Field(ge=0, le=100)] | None = None
    score_at_most: Annotated[int, Field(ge=0, le=100)] | None = None
    health_class: Literal["high", "medium", "low", "failed", "unknown"] | None = None
    reason: str | None = None
    taint: Literal["unhealthy", "degraded", "unknown", "none"] | None = None


class PodSeen(Model):
    """A pod. `device` and `not_device` compare its claim's devices, `health` the health that the kubelet reports."""

    name: Name
    phase: Literal["Pending", "Running", "Failed", "Succeeded"] | None = None
    node: Index | None = None
    device: OnGpu | None = None
    not_device: OnGpu | None = None
    condition: Condition | None = None
    health: Literal["Healthy", "Unhealthy", "Unknown"] | None = None
    health_message: str | None = None
    gone: bool | None = None


class ClaimSeen(Model):
    """The entry that the driver wrote into the status of the pod's claim."""

    pod: Name
    condition: Condition


class Siblings(OnGpu):
    """All other devices of the node: their JSON in the slice is the same as at the last mark."""


class SlicesSeen(OnNode):
    """The node's published pool."""

    devices: Annotated[int, Field(ge=0)]


class RegisteredSeen(OnNode):
    """The kubelet of the node has the driver's plugin registered and connected."""


class WritesSeen(Model):
    """Writes that the API server got since the last mark; all nodes unless one is named."""

    resource: Literal["resourceslices", "resourceclaims/status", "events"]
    node: Index | None = None
    at_most: Annotated[int, Field(ge=0)] | None = None
    at_least: Annotated[int, Field(ge=0)] | None = None


Subject = DeviceSeen | PodSeen | ClaimSeen | Siblings | SlicesSeen | RegisteredSeen | WritesSeen
SUBJECTS = ("device", "pod", "claim", "siblings", "slices", "registered", "writes")


class Expect(Model):
    """One expectation; exactly one subject. Without `holds` it must become true within `within` seconds."""

    device: DeviceSeen | None = None
    pod: PodSeen | None = None
    claim: ClaimSeen | None = None
    siblings: Siblings | None = None
    slices: SlicesSeen | None = None
    registered: RegisteredSeen | None = None
    writes: WritesSeen | None = None
    within: Seconds = 5.0
    holds: Seconds | None = None

    @property
    def subject(self) -> Subject:
        """The one subject that is set."""
        found: Subject = one_of(*(getattr(self, name) for name in SUBJECTS))
        return found

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        only_one(self, SUBJECTS)
        return self
