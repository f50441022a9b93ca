"""The result of a search for the driver's files: which devices of a node can be prepared."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuvitals.model.ids import GpuUuid, Reason


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a device can't be prepared. `reason` is on the closed list; `message` names the missing file and its remedy."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSeen:
    """The result of the last search. `looked_at` are the devices with a result, `lacks` those that can't be prepared.

    `node` is a lack of the whole node, also without any known device.
    """

    looked_at: frozenset[GpuUuid]
    lacks: Mapping[GpuUuid, Lack]
    node: Lack | None = None
