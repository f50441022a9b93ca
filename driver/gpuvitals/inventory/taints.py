"""Device taints, and the two ways of taking a device out of service."""

from enum import Enum
from typing import assert_never

from gpuvitals.inventory.device import Taint, TaintEffect
from gpuvitals.inventory.naming import Naming
from gpuvitals.model.health import HealthState
from gpuvitals.model.snapshot import GpuHealth


class ServiceMode(Enum):
    """How a device leaves service. WITHDRAW is for API servers that drop taints (1.34 and 1.35 by default)."""

    TAINT = "taint"
    WITHDRAW = "withdraw"


def taints(entry: GpuHealth, naming: Naming) -> tuple[Taint, ...]:
    """The device's taints in taint mode: at most one, named after the state, with the reason as its value.

    Only an isolated device has effect NoSchedule; every other taint has effect None and is informational. A device that
    can't be prepared has a key of its own, since that is no statement about the GPU's health (docs/adr/043).
    """
    effect = TaintEffect.NO_SCHEDULE if entry.isolated else TaintEffect.NONE
    if entry.unprepared is not None:
        return (Taint(key=f"{naming.driver}/unprepared", value=entry.unprepared.reason, effect=effect),)
    match entry.verdict.state:
        case HealthState.HEALTHY:
            return ()
        case HealthState.DEGRADED:
            key = "degraded"
        case HealthState.UNHEALTHY:
            key = "unhealthy"
        case HealthState.UNKNOWN:
            key = "unknown"
        case _:
            assert_never(entry.verdict.state)
    return (Taint(key=f"{naming.driver}/{key}", value=entry.verdict.reason, effect=effect),)
