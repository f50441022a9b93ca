"""The condition EvictionInProgress of a DeviceTaintRule, as a pure function of counts.

Place in the chain: `taint_eviction.py` writes it. Source: kubernetes/kubernetes
pkg/controller/devicetainteviction (maybeUpdateRuleStatus).
"""

from dataclasses import dataclass

from gpuvitals_sim.apiserver.json_types import Obj

_NO_UPDATE = (
    "if the effect was NoExecute. This information will not be updated again. "
    "Recreate the DeviceTaintRule to trigger an update."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFacts:
    """The effect of a rule, or its effect if it were NoExecute."""

    published_devices: int
    allocated_devices: int
    pending_pods: int
    namespaces: int
    evicted_pods: int


def rule_condition(effect: str, facts: RuleFacts) -> Obj:
    """Status, reason and message of the condition."""
    status, message = "False", ""
    match effect:
        case "NoExecute" if facts.pending_pods:
            status, reason = "True", "PodsPendingEviction"
            verb = "needs" if facts.pending_pods == 1 else "need"
            message = (
                f"{_count(facts.pending_pods, 'pod')} {verb} to be evicted in {_spread(facts.namespaces)}."
            )
        case "NoExecute":
            reason = "Completed" if facts.evicted_pods else "NotStarted"
        case "None":
            reason = "NoEffect"
            message = (
                f"{_count(facts.published_devices, 'published device')} selected. "
                f"{_count(facts.allocated_devices, 'allocated device')} selected. "
                f"{_count(facts.pending_pods, 'pod')} would be evicted in {_spread(facts.namespaces)} {_NO_UPDATE}"
            )
        case _:
            reason, message = "OtherEffect", "Eviction only happens for the NoExecute effect."
    if facts.evicted_pods:
        done = f"{_count(facts.evicted_pods, 'pod')} evicted since starting the controller."
        message = f"{message} {done}" if message else done
    return {"status": status, "reason": reason, "message": message}


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _spread(namespaces: int) -> str:
    return "1 namespace" if namespaces == 1 else f"{namespaces} different namespaces"
