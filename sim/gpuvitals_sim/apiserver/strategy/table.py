"""The rules of each kind.

Place in the chain: the verbs look a kind's rules up here; add a row for a kind with rules of its own.
"""

from functools import lru_cache
from types import MappingProxyType

from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.strategy.claim_status import CLAIM_RULES
from gpuvitals_sim.apiserver.strategy.claims import CLASS_RULES, TEMPLATE_RULES
from gpuvitals_sim.apiserver.strategy.core import (
    LEASE_RULES,
    NAMESPACE_RULES,
    NODE_RULES,
    SECRET_RULES,
)
from gpuvitals_sim.apiserver.strategy.custom import custom_rules
from gpuvitals_sim.apiserver.strategy.definitions import DEFINITION_RULES
from gpuvitals_sim.apiserver.strategy.events import EVENT_RULES
from gpuvitals_sim.apiserver.strategy.pods import POD_RULES
from gpuvitals_sim.apiserver.strategy.rules import Rules
from gpuvitals_sim.apiserver.strategy.slices import SLICE_RULES
from gpuvitals_sim.apiserver.strategy.taints import TAINT_RULES
from gpuvitals_sim.apiserver.strategy.workloads import (
    BUDGET_RULES,
    DAEMON_SET_RULES,
    JOB_RULES,
    REPLICA_SET_RULES,
)

_NONE = Rules()
_RULES = MappingProxyType(
    {
        "nodes": NODE_RULES,
        "pods": POD_RULES,
        "events": EVENT_RULES,
        "namespaces": NAMESPACE_RULES,
        "secrets": SECRET_RULES,
        "jobs.batch": JOB_RULES,
        "daemonsets.apps": DAEMON_SET_RULES,
        "replicasets.apps": REPLICA_SET_RULES,
        "leases.coordination.k8s.io": LEASE_RULES,
        "poddisruptionbudgets.policy": BUDGET_RULES,
        "resourceslices.resource.k8s.io": SLICE_RULES,
        "resourceclaims.resource.k8s.io": CLAIM_RULES,
        "resourceclaimtemplates.resource.k8s.io": TEMPLATE_RULES,
        "deviceclasses.resource.k8s.io": CLASS_RULES,
        "devicetaintrules.resource.k8s.io": TAINT_RULES,
        "customresourcedefinitions.apiextensions.k8s.io": DEFINITION_RULES,
    }
)


def rules_for(kind: Kind) -> Rules:
    """The kind's rules, neutral ones by default."""
    return _custom(kind) if kind.custom else _RULES.get(kind.store_id, _NONE)


@lru_cache(maxsize=256)
def _custom(kind: Kind) -> Rules:
    return custom_rules(kind)
