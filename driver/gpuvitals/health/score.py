"""The health score, 0..100, in exact arithmetic: `floor(100 * (1-0.4x)(0.7+0.3n)(1-0.2e)t)`, version 1.

x weighs unresolved XIDs, n the NVLinks, e the memory, each in 0..1; t is the heat, 0.9..1. A missing signal has no
influence: it lowers the coverage instead. Several inputs land exactly on 90 or 70, so no float is involved.

t has three steps instead of a slope, so that small changes of temperature cause no write (docs/adr/013). The rate of
correctable errors is left out, since it means little without a fleet to compare with. The driver's recovery action acts
through the state: an action that isolates makes the score 0, a lesser one caps it.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import assert_never

from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState, Worst
from gpuvitals.model.health import HealthClass, HealthState
from gpuvitals.model.ids import Reason

VERSION = 1
"""Incremented when equal inputs give another score, so that scores of different agents can be distinguished."""

DEGRADED_CAP = 90
PROBATION_CAP = 69
"""Caps by state: a degraded GPU is never `high`, a GPU on probation never `medium`."""

HEAT = (Fraction(1), Fraction(24, 25), Fraction(9, 10))
"""t by heat step: cool, warm, at the slowdown point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The four inputs. `xid`, `links` and `memory` are in 0..1; `heat_step` is 0, 1 or 2."""

    xid: Fraction
    links: Fraction
    memory: Fraction
    heat_step: int


def factors(state: GpuState, now: float, policy: Policy) -> Factors:
    """The inputs of the score at `now`."""
    weights = (
        Fraction(record.rule.severity_percent, 100) * _aged(now - record.counted_at, policy)
        for record in state.xids
        if record.counted_at is not None and not record.resolved
    )
    return Factors(
        xid=max(weights, default=Fraction(0)),
        links=link_share(state) if _links_count(state, policy) else Fraction(1),
        memory=_memory(state, now, policy),
        heat_step=state.heat_step,
    )


@lru_cache(maxsize=1024)
def score(inputs: Factors) -> int:
    """The floor of the product, except that heat alone never lowers the class.

    Cached, since the agent evaluates every GPU each time and most inputs are unchanged.
    """
    cool, hot = int(product(replace(inputs, heat_step=0)) // 1), int(product(inputs) // 1)
    return max(hot, _floor(health_class(cool)))


def product(inputs: Factors) -> Fraction:
    """The formula alone, times 100."""
    base = 100 * (1 - Fraction(2, 5) * inputs.xid)
    base *= Fraction(7, 10) + Fraction(3, 10) * inputs.links
    base *= 1 - Fraction(1, 5) * inputs.memory
    return base * HEAT[inputs.heat_step]


def capped(value: int, state: HealthState, *, probation: bool) -> int:
    """The score that may be published in that state."""
    match state:
        case HealthState.HEALTHY:
            return value
        case HealthState.DEGRADED:
            return min(value, PROBATION_CAP if probation else DEGRADED_CAP)
        case HealthState.UNHEALTHY | HealthState.UNKNOWN:
            return 0
        case _:
            assert_never(state)


def health_class(value: int) -> HealthClass:
    """The class of a published score: 91..100 high, 70..90 medium, 1..69 low, 0 failed."""
    if value > 90:
        return HealthClass.HIGH
    if value >= 70:
        return HealthClass.MEDIUM
    return HealthClass.LOW if value > 0 else HealthClass.FAILED


def link_share(state: GpuState) -> Fraction:
    """Active over expected NVLinks; 1 for a model without NVLink and if the links could not be read."""
    if not state.expected_links or state.links_down is None:
        return Fraction(1)
    return max(Fraction(0), 1 - Fraction(state.links_down.value, state.expected_links))


def _floor(of: HealthClass) -> int:
    match of:
        case HealthClass.HIGH:
            return 91
        case HealthClass.MEDIUM:
            return 70
        case HealthClass.LOW:
            return 1
        case HealthClass.FAILED | HealthClass.UNKNOWN:
            return 0
        case _:
            assert_never(of)


def _aged(age_seconds: float, policy: Policy) -> Fraction:
    """The weight at that age: halved each half-life, linear in between, in steps of an hour."""
    hours = max(0, int(age_seconds // 3600))
    per_halving = max(1, policy.xid_half_life_seconds // 3600)
    halvings, rest = divmod(hours, per_halving)
    return Fraction(1, 2**halvings) * (1 - Fraction(rest, 2 * per_halving))


def _memory(state: GpuState, now: float, policy: Policy) -> Fraction:
    inputs = [Fraction(0)]
    if state.remapped_at is not None and now - state.remapped_at < policy.row_remap_memory_seconds:
        inputs.append(Fraction(3, 10))
    if state.memory_percent is not None and _is_confirmed(state.memory_percent, policy):
        inputs.append(Fraction(state.memory_percent.value, 100))
    return max(inputs)


def _links_count(state: GpuState, policy: Policy) -> bool:
    return _is_confirmed(state.links_down, policy) or state.fault(Reason("NvlinkDown")) is not None


def _is_confirmed(worst: Worst | None, policy: Policy) -> bool:
    """Whether the value has been bad for `level_confirm_seconds`, like a level that is a fault."""
    return worst is not None and worst.at - worst.since >= policy.level_confirm_seconds
