"""The result of a check of the driver's files: the devices of a node that can be prepared."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuvitals.model.ids import GpuUuid, Reason


@dataclass(frozen=True, slots=True)
class Lack:
    """The reason why a device can't be prepared. `reason` is on the closed list; `message` names the missing file and its remedy."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesCheck:
    """The result of one check. `checked` are the devices with a result, `lacks` those that can't be prepared.

    `node` is a lack of the whole node, also without any known device.
    """

    checked: frozenset[GpuUuid]
    lacks: Mapping[GpuUuid, Lack]
    node: Lack | None = None
