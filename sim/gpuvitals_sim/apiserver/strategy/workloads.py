"""The rules of jobs, daemon sets and disruption budgets.

Place in the chain: `table.py` lists them. Source: kubernetes/kubernetes pkg/apis/batch/v1/defaults.go,
pkg/registry/batch/job/strategy.go, pkg/apis/apps/v1/defaults.go, pkg/apis/policy/validation.
"""

import re

from gpuvitals_sim.apiserver.errors import FieldError, invalid_value, not_supported, required
from gpuvitals_sim.apiserver.json_types import Obj, dig, same
from gpuvitals_sim.apiserver.selectors import labels_match
from gpuvitals_sim.apiserver.strategy.fields import negative_errors
from gpuvitals_sim.apiserver.strategy.metadata import IMMUTABLE
from gpuvitals_sim.apiserver.strategy.names import label_complaints
from gpuvitals_sim.apiserver.strategy.pods import default_pod_spec, spec_errors
from gpuvitals_sim.apiserver.strategy.rules import Rules

_JOB_NUMBERS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
)
_COMPLETION_MODES = ("NonIndexed", "Indexed")
_UNHEALTHY_POLICIES = ("AlwaysAllow", "IfHealthyBudget")
_BUDGET_NUMBERS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
_JOB_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
_JOB_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")


def _default_job(job: Obj) -> None:
    spec = job.get("spec")
    if not isinstance(spec, dict):
        return
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    replacement = "TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed"
    for name, value in (
        ("parallelism", 1), ("backoffLimit", 6), ("completionMode", "NonIndexed"), ("suspend", False),
        ("podReplacementPolicy", replacement), ("manualSelector", False),
    ):  # fmt: skip
        spec.setdefault(name, value)
    _default_template(spec)


def _prepare_job(job: Obj) -> None:
    """Labels the pods with the job's UID and selects them by it, unless `manualSelector` is set."""
    spec, metadata = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    labels |= dict.fromkeys(_JOB_LABELS, metadata["uid"]) | dict.fromkeys(_JOB_NAME_LABELS, metadata["name"])
    spec.setdefault("selector", {}).setdefault("matchLabels", {})[_JOB_LABELS[0]] = metadata["uid"]
    job["status"] = {}
    if not metadata.get("labels"):
        metadata["labels"] = dict(labels)


def _job_errors(job: Obj) -> list[FieldError]:
    spec = job.get("spec") or {}
    template = dig(spec, "template", "spec") or {}
    errors = negative_errors(spec, _JOB_NUMBERS, "spec")
    if spec.get("completionMode") not in _COMPLETION_MODES:
        errors.append(not_supported("spec.completionMode", spec.get("completionMode"), _COMPLETION_MODES))
    errors += spec_errors(template, "spec.template.spec")
    if template.get("restartPolicy") == "Always":
        errors.append(required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    errors += [invalid_value("metadata.name", job["metadata"]["name"], text) for text in _job_name(job)]
    return errors


def _job_name(job: Obj) -> list[str]:
    name = job["metadata"].get("name") or ""
    return label_complaints(name) if len(name) > 63 else []


def _job_update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource:
        return []
    return [
        invalid_value(f"spec.{name}", dig(new, "spec", name), IMMUTABLE)
        for name in ("completions", "selector", "template", "completionMode", "podFailurePolicy")
        if not same(dig(new, "spec", name), dig(old, "spec", name))
    ]


def _default_daemon_set(daemon_set: Obj) -> None:
    spec = daemon_set.get("spec")
    if not isinstance(spec, dict):
        return
    annotations = daemon_set["metadata"].setdefault("annotations", {})
    annotations.setdefault("deprecated.daemonset.template.generation", "1")
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {"type": "RollingUpdate"})
    if strategy.get("type") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {"maxUnavailable": 1, "maxSurge": 0})
    _default_template(spec)


def _prepare_daemon_set(daemon_set: Obj) -> None:
    daemon_set["status"] = dict.fromkeys(
        ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"), 0
    )


def _daemon_set_errors(daemon_set: Obj) -> list[FieldError]:
    spec = daemon_set.get("spec") or {}
    labels = dig(spec, "template", "metadata", "labels") or {}
    errors = [] if spec.get("selector") else [required("spec.selector")]
    if spec.get("selector") and not labels_match(spec["selector"], labels):
        text = "`selector` does not match template `labels`"
        errors.append(invalid_value("spec.template.metadata.labels", labels, text))
    return errors + spec_errors(dig(spec, "template", "spec") or {}, "spec.template.spec")


def _default_replica_set(replica_set: Obj) -> None:
    spec = replica_set.get("spec")
    if isinstance(spec, dict):
        spec.setdefault("replicas", 1)
        _default_template(spec)


def _prepare_replica_set(replica_set: Obj) -> None:
    replica_set["status"] = {"replicas": 0}


def _replica_set_errors(replica_set: Obj) -> list[FieldError]:
    return negative_errors(replica_set.get("spec") or {}, ("replicas",), "spec") + _daemon_set_errors(
        replica_set
    )


def _replica_set_update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource:
        return []
    kept = same(dig(new, "spec", "selector"), dig(old, "spec", "selector"))
    immutable = [] if kept else [invalid_value("spec.selector", dig(new, "spec", "selector"), IMMUTABLE)]
    return _replica_set_errors(new) + immutable


def _default_template(spec: Obj) -> None:
    template = dig(spec, "template", "spec")
    if isinstance(template, dict):
        default_pod_spec(template)


def _prepare_budget(budget: Obj) -> None:
    budget["status"] = dict.fromkeys(
        ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"), 0
    )


def _budget_errors(budget: Obj) -> list[FieldError]:
    spec = budget.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        names = ("minAvailable", "selector", "maxUnavailable", "unhealthyPodEvictionPolicy")
        shown = {name[0].upper() + name[1:]: spec.get(name) for name in names}
        return [invalid_value("spec", shown, "minAvailable and maxUnavailable cannot be both set")]
    bounds = ("minAvailable", "maxUnavailable")
    errors = negative_errors(spec, bounds, "spec")
    for name in bounds:
        errors += _percent_errors(spec.get(name), f"spec.{name}")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _UNHEALTHY_POLICIES:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, _UNHEALTHY_POLICIES))
    return errors


def _percent_errors(value: object, path: str) -> list[FieldError]:
    if not isinstance(value, str):
        return []
    if not re.fullmatch(r"[0-9]+%", value):
        return [invalid_value(path, value, _PERCENT_TEXT)]
    return [invalid_value(path, value, "must not be greater than 100%")] if int(value[:-1]) > 100 else []


def _budget_update_errors(new: Obj, _old: Obj, subresource: str) -> list[FieldError]:
    return negative_errors(new["status"], _BUDGET_NUMBERS, "status") if subresource else _budget_errors(new)


JOB_RULES = Rules(
    default=_default_job,
    prepare_create=_prepare_job,
    validate_create=_job_errors,
    validate_update=_job_update_errors,
)
DAEMON_SET_RULES = Rules(
    default=_default_daemon_set, prepare_create=_prepare_daemon_set, validate_create=_daemon_set_errors
)
REPLICA_SET_RULES = Rules(
    default=_default_replica_set,
    prepare_create=_prepare_replica_set,
    validate_create=_replica_set_errors,
    validate_update=_replica_set_update_errors,
)
BUDGET_RULES = Rules(
    prepare_create=_prepare_budget, validate_create=_budget_errors, validate_update=_budget_update_errors
)
