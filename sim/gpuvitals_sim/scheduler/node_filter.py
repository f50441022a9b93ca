"""Filters nodes for a pod before any claim, and matches node selectors of slices and allocations.

Place in the chain: the decision filters with it first, in the order of the real scheduler's plugins.
Source: kubernetes/kubernetes pkg/scheduler/framework/plugins (nodeunschedulable, tainttoleration, nodeaffinity).
"""

from collections.abc import Callable, Iterable, Mapping

from gpuvitals_sim.apiserver.json_types import Obj

UNSCHEDULABLE = "node(s) were unschedulable"
UNTOLERATED = "node(s) had untolerated taint(s)"
NOT_SELECTED = "node(s) didn't match Pod's node affinity/selector"

_CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_REPELLING = ("NoSchedule", "NoExecute")


def node_name(node: Obj) -> str:
    """The node's name."""
    return str(node["metadata"]["name"])


def refusal(pod: Obj, node: Obj) -> str:
    """The reason why the pod can't run on the node, in the scheduler's words, or an empty text."""
    spec = node.get("spec") or {}
    tolerations = pod["spec"].get("tolerations") or ()
    if spec.get("unschedulable") and not tolerated(_CORDON, tolerations):
        return UNSCHEDULABLE
    for taint in spec.get("taints") or ():
        if taint.get("effect") in _REPELLING and not tolerated(taint, tolerations):
            return UNTOLERATED
    return "" if _selected(pod, node) else NOT_SELECTED


def tolerated(taint: Mapping[str, str], tolerations: Iterable[Mapping[str, str]]) -> bool:
    """Whether one of the tolerations matches; the rules are the same for nodes and for devices."""
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def selector_matches(selector: Obj | None, node: Obj) -> bool:
    """Whether a NodeSelector matches the node: its terms are alternatives; no terms match nothing."""
    if selector is None:
        return True
    return any(_term_matches(term, node) for term in selector.get("nodeSelectorTerms") or ())


def only_node(name: str) -> Obj:
    """The NodeSelector that matches one node by name."""
    return {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]
    }


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return (toleration.get("value") or "") == (taint.get("value") or "")
        case _:
            return False


def _selected(pod: Obj, node: Obj) -> bool:
    labels = node["metadata"].get("labels") or {}
    wanted = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    return selector_matches(affinity.get("requiredDuringSchedulingIgnoredDuringExecution"), node)


def _term_matches(term: Obj, node: Obj) -> bool:
    fields = {"metadata.name": node_name(node)}
    labels = node["metadata"].get("labels") or {}
    expressions, names = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not names:
        return False
    return all(_fits(rule, labels) for rule in expressions) and all(_fits(rule, fields) for rule in names)


_OPERATORS: Mapping[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
    "Gt": lambda value, values: value is not None and int(value) > int(values[0]),
    "Lt": lambda value, values: value is not None and int(value) < int(values[0]),
}


def _fits(rule: Obj, values: Mapping[str, str]) -> bool:
    return _OPERATORS[rule["operator"]](values.get(rule["key"]), rule.get("values") or [])
