"""The rules of CustomResourceDefinition: names, versions, and the defaults the server fills in.

Place in the chain: `table.py` lists `DEFINITION_RULES`; `verbs/custom_resources.py` serves the defined kinds.
Source: kubernetes/apiextensions-apiserver pkg/apis/apiextensions (validation, v1 defaults).
"""

from gpuvitals_sim.apiserver.errors import FieldError, invalid_value, not_supported, required
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.strategy.metadata import IMMUTABLE
from gpuvitals_sim.apiserver.strategy.rules import Rules


def _default(definition: Obj) -> None:
    spec = definition.get("spec")
    names = dig(spec, "names")
    if not isinstance(spec, dict) or not isinstance(names, dict):
        return
    kind = names.get("kind") or ""
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})


def _errors(definition: Obj) -> list[FieldError]:
    spec = definition.get("spec") or {}
    names, group = spec.get("names") or {}, spec.get("group") or ""
    expected = f"{names.get('plural', '')}.{group}"
    errors = []
    if definition["metadata"].get("name") != expected:
        text = 'must be spec.names.plural+"."+spec.group'
        errors.append(invalid_value("metadata.name", definition["metadata"].get("name"), text))
    if not group:
        errors.append(required("spec.group"))
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        errors.append(not_supported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")))
    errors += [required(f"spec.names.{name}") for name in ("plural", "kind") if not names.get(name)]
    return errors + _version_errors(spec.get("versions") or [])


def _version_errors(versions: list[Obj]) -> list[FieldError]:
    errors = []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        errors.append(invalid_value("spec.versions", versions, text))
    for place, version in enumerate(versions):
        path = f"spec.versions[{place}].schema.openAPIV3Schema"
        schema = dig(version, "schema", "openAPIV3Schema")
        if schema is None:
            errors.append(required(path))
        elif schema.get("type") != "object":
            errors.append(required(f"{path}.type", "must not be empty at the root"))
        else:
            errors += _structure_errors(schema, "spec.validation.openAPIV3Schema")
    return errors


def _structure_errors(schema: Obj, path: str) -> list[FieldError]:
    """Errors of fields that declare neither a type nor that they accept any value."""
    errors = []
    for name, part in (schema.get("properties") or {}).items():
        errors += _typed_errors(part, f"{path}.properties[{name}]", "specified object fields")
    for name in ("items", "additionalProperties"):
        part = schema.get(name)
        if isinstance(part, dict):
            what = "specified array items" if name == "items" else "specified object fields"
            errors += _typed_errors(part, f"{path}.{name}", what)
    return errors


def _typed_errors(part: Obj, path: str, what: str) -> list[FieldError]:
    free = part.get("x-kubernetes-int-or-string") or part.get("x-kubernetes-preserve-unknown-fields")
    missing = [] if part.get("type") or free else [required(f"{path}.type", f"must not be empty for {what}")]
    return missing + _structure_errors(part, path)


def _update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource:
        return []
    errors = _errors(new)
    for path in (("group",), ("scope",), ("names", "kind"), ("names", "plural")):
        if dig(new, "spec", *path) != dig(old, "spec", *path):
            errors.append(invalid_value("spec." + ".".join(path), dig(new, "spec", *path), IMMUTABLE))
    return errors


def _prepare(definition: Obj) -> None:
    versions = dig(definition, "spec", "versions") or ()
    definition["status"] = {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": [version["name"] for version in versions if version.get("storage")],
    }


DEFINITION_RULES = Rules(
    default=_default, prepare_create=_prepare, validate_create=_errors, validate_update=_update_errors
)
