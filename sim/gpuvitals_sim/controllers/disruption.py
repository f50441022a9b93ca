"""PodDisruptionBudgets: the number of disruptions that are allowed now.

Place in the chain: the eviction subresource reads the status written here. All pods that match a budget count
as expected; the real controller reads the number from their owners. Source: kubernetes/kubernetes
pkg/controller/disruption.
"""

from datetime import UTC, datetime, timedelta

from gpuvitals_sim.apiserver import InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig, parse_time
from gpuvitals_sim.apiserver.selectors import labels_match
from gpuvitals_sim.apiserver.verbs.subresources import set_disruption_allowed
from gpuvitals_sim.controllers.pods import is_finished, is_ready

BUDGETS = "poddisruptionbudgets.policy"
_DELETION_TIMEOUT = timedelta(minutes=2)


class BudgetController:
    """Level-triggered: every pass computes every budget."""

    kinds = frozenset(("pods", BUDGETS))

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Writes the status of each budget whose numbers changed."""
        pods = self._client.peek("pods")
        waits = []
        for budget in self._client.peek(BUDGETS):
            status = _status(budget, pods)
            if status != budget.get("status"):
                self._client.update_status(BUDGETS, {**clone(budget), "status": status})
            if status.get("disruptedPods"):
                waits.append(_DELETION_TIMEOUT.total_seconds())
        return min(waits, default=None)


def _status(budget: Obj, pods: list[Obj]) -> Obj:
    namespace, selector = budget["metadata"]["namespace"], dig(budget, "spec", "selector")
    matching = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == namespace
        and not is_finished(pod)
        and labels_match(selector, pod["metadata"].get("labels") or {})
    ]
    disrupted = _still_disrupted(budget, matching)
    healthy = sum(
        1
        for pod in matching
        if is_ready(pod)
        and "deletionTimestamp" not in pod["metadata"]
        and pod["metadata"]["name"] not in disrupted
    )
    desired = _desired(budget.get("spec") or {}, len(matching))
    status: Obj = {
        "observedGeneration": budget["metadata"].get("generation", 0),
        "disruptionsAllowed": max(healthy - desired, 0) if matching else 0,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": len(matching),
        "conditions": clone(dig(budget, "status", "conditions") or []),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    before = clone(status["conditions"])
    set_disruption_allowed(status)
    if _same_conditions(before, status["conditions"]):
        status["conditions"] = before
    return status


def _still_disrupted(budget: Obj, pods: list[Obj]) -> dict[str, str]:
    present = {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    limit = datetime.now(UTC) - _DELETION_TIMEOUT
    noted = dig(budget, "status", "disruptedPods") or {}
    return {name: moment for name, moment in noted.items() if name in present and parse_time(moment) > limit}


def _desired(spec: Obj, expected: int) -> int:
    if "maxUnavailable" in spec:
        return max(expected - _amount(spec["maxUnavailable"], expected), 0)
    return _amount(spec.get("minAvailable", 1), expected)


def _amount(value: object, expected: int) -> int:
    """A number of pods, or a percentage of them rounded up."""
    text = str(value)
    return -(-expected * int(text[:-1]) // 100) if text.endswith("%") else int(text)


def _same_conditions(left: list[Obj], right: list[Obj]) -> bool:
    def bare(conditions: list[Obj]) -> list[Obj]:
        return [
            {key: value for key, value in entry.items() if key != "lastTransitionTime"}
            for entry in conditions
        ]

    return bare(left) == bare(right)
