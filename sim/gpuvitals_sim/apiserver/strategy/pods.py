"""The rules of pods: defaults, first status, mutable fields, grace period.

Place in the chain: `table.py` lists `POD_RULES`; jobs and daemon sets use `default_pod_spec` for their templates.
Source: kubernetes/kubernetes pkg/apis/core/v1/defaults.go, pkg/registry/core/pod/strategy.go, pkg/apis/core/validation.
"""

from typing import Any

from gpuvitals_sim.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig, same
from gpuvitals_sim.apiserver.strategy.names import label_complaints
from gpuvitals_sim.apiserver.strategy.rules import Rules

_CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_NOT_READY_SECONDS = 300


def default_pod_spec(spec: Obj) -> None:
    """Fills in the defaults of a pod spec."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    for name in _CONTAINER_LISTS:
        for container in spec.get(name) or ():
            _default_container(container)


def spec_errors(spec: Obj, path: str) -> list[FieldError]:
    """Errors of a pod spec (containers and policies; the rest is accepted)."""
    containers = spec.get("containers") or []
    errors = [] if containers else [required(f"{path}.containers")]
    names: set[str] = set()
    for kind in ("containers", "initContainers"):
        for place, container in enumerate(spec.get(kind) or ()):
            errors += _container_errors(container, f"{path}.{kind}[{place}]", names)
    policy = spec.get("restartPolicy")
    if policy not in ("Always", "OnFailure", "Never"):
        errors.append(not_supported(f"{path}.restartPolicy", policy, ("Always", "OnFailure", "Never")))
    return errors


def _default(pod: Obj) -> None:
    if isinstance(pod.get("spec"), dict):
        default_pod_spec(pod["spec"])
        pod["spec"].setdefault("enableServiceLinks", True)
    for condition in dig(pod, "status", "conditions") or ():
        for name in ("lastProbeTime", "lastTransitionTime"):
            condition.setdefault(name, None)


def _default_container(container: Obj) -> None:
    image = container.get("image") or ""
    tag = image.rpartition("/")[2].partition(":")[2]
    resources = container.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")


def _prepare_create(pod: Obj) -> None:
    spec = pod.setdefault("spec", {})
    pod["status"] = {"phase": "Pending", "qosClass": _qos_class(spec)}
    _admit(spec)


def _admit(spec: Obj) -> None:
    """Adds the tolerations of the real server's admission plugins, also on an update."""
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_tolerates(entry, key) for entry in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _NOT_READY_SECONDS,
                }
            )


def _tolerates(toleration: Obj, key: str) -> bool:
    return toleration.get("key") in (None, "", key) and toleration.get("effect") in (None, "", "NoExecute")


def _qos_class(spec: Obj) -> str:
    wanted = [container.get("resources") or {} for container in spec.get("containers") or ()]
    if not any(part.get("requests") or part.get("limits") for part in wanted):
        return "BestEffort"
    for part in wanted:
        limits = part.get("limits") or {}
        requests = part.get("requests") or limits
        if not {"cpu", "memory"} <= limits.keys() or any(
            requests.get(name) != limits[name] for name in ("cpu", "memory")
        ):
            return "Burstable"
    return "Guaranteed"


def _prepare_update(new: Obj, old: Obj, subresource: str) -> None:
    if not subresource:
        _admit(new["spec"])
    if subresource == "status":
        owners = dig(old, "metadata", "ownerReferences")
        if owners is None:
            new["metadata"].pop("ownerReferences", None)
        else:
            new["metadata"]["ownerReferences"] = owners
        new.setdefault("status", {}).setdefault("qosClass", dig(old, "status", "qosClass") or "BestEffort")


def _create_errors(pod: Obj) -> list[FieldError]:
    return spec_errors(pod.get("spec") or {}, "spec")


def _update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource:
        return []
    allowed, stored = (
        _changeable_removed(new["spec"], old["spec"]),
        _changeable_removed(old["spec"], old["spec"]),
    )
    if same(allowed, stored):
        return []
    return [forbidden_field("spec", _IMMUTABLE)]


def _changeable_removed(spec: Obj, old: Obj) -> Obj:
    """The spec without the mutable fields."""
    bare = clone(spec)
    for kind in ("containers", "initContainers"):
        for container in bare.get(kind) or ():
            container.pop("image", None)
    for name in ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "schedulingGates"):
        bare.pop(name, None)
    before: list[Any] = old.get("tolerations") or []
    added = [entry for entry in bare.pop("tolerations", None) or [] if entry not in before]
    if len(spec.get("tolerations") or []) - len(added) < len(before):
        bare["tolerations"] = "removed"
    return bare


def _container_errors(container: Obj, path: str, names: set[str]) -> list[FieldError]:
    name = container.get("name") or ""
    errors = [] if name else [required(f"{path}.name")]
    if name:
        errors += [invalid_value(f"{path}.name", name, text) for text in label_complaints(name)]
    if name in names:
        errors.append(duplicate(f"{path}.name", name))
    names.add(name)
    if not container.get("image"):
        errors.append(required(f"{path}.image"))
    return errors


def _grace_seconds(pod: Obj, requested: int | None) -> int:
    seconds = requested if requested is not None else dig(pod, "spec", "terminationGracePeriodSeconds") or 0
    if not dig(pod, "spec", "nodeName") or dig(pod, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    return max(int(seconds), 0) if seconds >= 0 else 1


POD_RULES = Rules(
    default=_default,
    prepare_create=_prepare_create,
    prepare_update=_prepare_update,
    validate_create=_create_errors,
    validate_update=_update_errors,
    grace_seconds=_grace_seconds,
)
