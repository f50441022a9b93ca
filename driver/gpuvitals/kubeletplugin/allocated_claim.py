"""The parts of a ResourceClaim that Prepare needs. `node/edge_adapters` converts the API object to them."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.ids import ClaimUid


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A toleration of an allocation result. `operator` is Exists or Equal; an empty key or effect matches any."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatedDevice:
    """One entry of `status.allocation.devices.results`, of any driver. `request` may be `request/subrequest`.

    `prepared_on` is the UUID of the GPU on which the claim was prepared before, from the claim's status.
    """

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool = False
    share_id: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    prepared_on: str = ""


class ConfigSource(Enum):
    """The origin of an opaque config. Configs of the claim override those of its class."""

    CLASS = "FromClass"
    CLAIM = "FromClaim"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueConfig:
    """One entry of `status.allocation.devices.config`. `parameters` is its JSON text, undecoded and untrusted."""

    source: ConfigSource
    requests: tuple[str, ...] = ()
    driver: str
    parameters: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatedClaim:
    """A claim as stored on the API server. `allocated` is False without `status.allocation`.

    `allocated_by` is a time at which it was allocated already, None if the claim has no such time.
    """

    namespace: str
    name: str
    uid: ClaimUid
    allocated: bool = True
    results: tuple[AllocatedDevice, ...] = ()
    configs: tuple[OpaqueConfig, ...] = ()
    allocated_by: datetime | None = None
