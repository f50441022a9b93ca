"""The result of a search for the driver's files: which devices of a node can be prepared."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuvitals.model.ids import GpuUuid, Reason


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a device can't be prepared. `reason` is on the closed list; `message` says what is missing and what makes it."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSeen:
    """The newest look. `looked_at` are the devices that it settled; `lacks` those of them that can't be prepared.

    `node` is what the node as a whole lacks, also where no device is known.
    """

    looked_at: frozenset[GpuUuid]
    lacks: Mapping[GpuUuid, Lack]
    node: Lack | None = None
