"""Applies a Job's podFailurePolicy to one failed pod. Pure.

Place in the chain: used by jobs. Source: kubernetes/kubernetes pkg/controller/job/pod_failure_policy.go.
"""

from dataclasses import dataclass
from enum import Enum

from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.controllers.pod_template import exit_codes


class FailureAction(Enum):
    """The effect of a failed pod on its Job. FAIL_INDEX fails one index of an Indexed Job; here it counts as a failure."""

    COUNT = "Count"
    IGNORE = "Ignore"
    FAIL_JOB = "FailJob"
    FAIL_INDEX = "FailIndex"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDecision:
    """The action of the first matching rule, COUNT by default, and the message for FAIL_JOB."""

    action: FailureAction
    message: str = ""


def failure_decision(job: Obj, pod: Obj) -> FailureDecision:
    """The decision of the policy of `job` on the failed `pod`."""
    for index, rule in enumerate(dig(job, "spec", "podFailurePolicy", "rules") or ()):
        matched = _matching_exit(rule, pod) or _matching_condition(rule, pod)
        if matched:
            metadata = pod["metadata"]
            where = f"{metadata['namespace']}/{metadata['name']}"
            message = f"{matched.format(pod=where)} matching {rule['action']} rule at index {index}"
            return FailureDecision(action=FailureAction(rule["action"]), message=message)
    return FailureDecision(action=FailureAction.COUNT)


def _matching_exit(rule: Obj, pod: Obj) -> str:
    wanted = rule.get("onExitCodes")
    if wanted is None:
        return ""
    for name, code in exit_codes(pod):
        # An exit code of 0 is no failure, so it matches no rule, NotIn included.
        if code == 0 or wanted.get("containerName") not in (None, "", name):
            continue
        if (code in wanted["values"]) is (wanted["operator"] == "In"):
            return f"Container {name} for pod {{pod}} failed with exit code {code}"
    return ""


def _matching_condition(rule: Obj, pod: Obj) -> str:
    for pattern in rule.get("onPodConditions") or ():
        for condition in dig(pod, "status", "conditions") or ():
            wanted = pattern["type"], pattern.get("status") or "True"
            if (condition.get("type"), condition.get("status")) == wanted:
                return f"Pod {{pod}} has condition {pattern['type']}"
    return ""
