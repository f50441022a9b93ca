"""A ResourceClaim as far as preparing needs it. The `kube` edge decodes the API object, `wiring` adapts it to this."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.ids import ClaimUid


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A toleration of an allocation result. `operator` is Exists or Equal; empty key and effect match everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatedDevice:
    """One entry of `status.allocation.devices.results`, of any driver. `request` may be `request/subrequest`.

    `prepared_on` is the UUID of the GPU on which it was prepared for the claim before, as the claim's status says.
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
    """Who wrote an opaque config. What the class says comes before what the claim says."""

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
    """A claim as the API server has it now. `allocated` is False where `status.allocation` is absent.

    `allocated_by` is an instant by which it was allocated, None where the claim does not say.
    """

    namespace: str
    name: str
    uid: ClaimUid
    allocated: bool = True
    results: tuple[AllocatedDevice, ...] = ()
    configs: tuple[OpaqueConfig, ...] = ()
    allocated_by: datetime | None = None
