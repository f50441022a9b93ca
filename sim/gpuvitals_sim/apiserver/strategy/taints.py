"""Device taints, tolerations, and the rules of DeviceTaintRule.

Place in the chain: rules of slices and claims use the parts; `TAINT_RULES` is a kind of its own.
`timeAdded` is stamped, in whole seconds, on every taint that a write leaves without it.
Source: kubernetes/kubernetes pkg/apis/resource/validation, pkg/apis/resource/v1/defaults.go.
"""

from gpuvitals_sim.apiserver.errors import FieldError, invalid_value, late, not_supported, required, too_many
from gpuvitals_sim.apiserver.json_types import Obj, dig, parse_time, timestamp
from gpuvitals_sim.apiserver.strategy.fields import (
    condition_errors,
    default_conditions,
    driver_errors,
    label_errors,
    label_key_errors,
    label_text_errors,
    pool_errors,
)
from gpuvitals_sim.apiserver.strategy.rules import Rules

EFFECTS = ("NoExecute", "NoSchedule", "None")
_CONDITIONS_LIMIT = 8


def stamp(taint: Obj) -> None:
    """Sets timeAdded if the taint has none; cuts fractions of a second."""
    added = taint.get("timeAdded")
    if not added:
        taint["timeAdded"] = timestamp()
        return
    try:
        taint["timeAdded"] = timestamp(parse_time(added))
    except (ValueError, TypeError):
        return  # validation reports the error


def taint_errors(taint: Obj, path: str, old: Obj | None = None) -> list[FieldError]:
    """All errors of a taint; an effect that was stored before stays allowed."""
    errors = label_key_errors(taint.get("key") or "", f"{path}.key")
    if taint.get("value"):
        errors += label_text_errors(taint["value"], f"{path}.value")
    effect = taint.get("effect") or ""
    if old is not None and old.get("effect") == effect:
        return errors
    if not effect:
        errors.append(late(required(f"{path}.effect")))
    elif effect not in EFFECTS:
        errors.append(late(not_supported(f"{path}.effect", effect, EFFECTS)))
    return errors


def toleration_errors(toleration: Obj, path: str) -> list[FieldError]:
    """All errors of a toleration."""
    errors = label_key_errors(toleration["key"], f"{path}.key") if toleration.get("key") else []
    operator, value = toleration.get("operator") or "", toleration.get("value") or ""
    match operator:
        case "Exists":
            if value:
                errors.append(invalid_value(f"{path}.value", value, "must be empty for operator `Exists`"))
        case "Equal":
            errors += label_text_errors(value, f"{path}.value")
        case "":
            errors.append(late(required(f"{path}.operator")))
        case _:
            errors.append(late(not_supported(f"{path}.operator", operator, ("Equal", "Exists"))))
    effect = toleration.get("effect")
    if effect and effect not in EFFECTS:
        errors.append(late(not_supported(f"{path}.effect", effect, EFFECTS)))
    return errors


def _default(rule: Obj) -> None:
    taint = dig(rule, "spec", "taint")
    if isinstance(taint, dict):
        stamp(taint)
    default_conditions(dig(rule, "status", "conditions"))


def _prepare_update(new: Obj, old: Obj, subresource: str) -> None:
    """Stamps timeAdded again if the effect of the rule's taint has changed."""
    if subresource:
        return
    taint, before = dig(new, "spec", "taint") or {}, dig(old, "spec", "taint") or {}
    if taint.get("effect") != before.get("effect") and taint.get("timeAdded") == before.get("timeAdded"):
        taint["timeAdded"] = timestamp()


def _spec_errors(rule: Obj, old: Obj | None) -> list[FieldError]:
    selector = dig(rule, "spec", "deviceSelector") or {}
    errors: list[FieldError] = []
    for name, check in (("driver", driver_errors), ("pool", pool_errors), ("device", label_errors)):
        if name in selector:
            errors += check(selector[name], f"spec.deviceSelector.{name}")
    return errors + taint_errors(dig(rule, "spec", "taint") or {}, "spec.taint", dig(old, "spec", "taint"))


def _update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource != "status":
        return _spec_errors(new, old)
    conditions = dig(new, "status", "conditions") or []
    errors = condition_errors(conditions, "status.conditions")
    if len(conditions) > _CONDITIONS_LIMIT:
        errors.append(too_many("status.conditions", len(conditions), _CONDITIONS_LIMIT))
    return errors


TAINT_RULES = Rules(
    default=_default,
    prepare_update=_prepare_update,
    validate_create=lambda rule: _spec_errors(rule, None),
    validate_update=_update_errors,
)
