"""The fields that the DRA kinds have, and their JSON types: unknown ones are lost, wrong types refused.

Place in the chain: decoding a body. A server stores only fields it knows; with `fieldValidation=Strict` an
unknown one is an error. Kinds without a row here keep every field they are given.
Notation: `name{...}` object, `name[...]` list of objects, `name[]` list of scalars, `name<...>` map of objects,
`name*` anything, and `:i :b :s` for integer, boolean and string (string if nothing is said).
Source: kubernetes/api resource/v1/types.go, apimachinery meta/v1/types.go (1.37).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from gpuvitals.sim.apiserver.jsontypes import Obj

_METADATA = """metadata{name generateName namespace selfLink uid resourceVersion generation:i creationTimestamp
  deletionTimestamp deletionGracePeriodSeconds:i labels* annotations* finalizers[] managedFields*
  ownerReferences[apiVersion kind name uid controller:b blockOwnerDeletion:b]}"""
_CONDITIONS = "conditions[type status reason message lastTransitionTime observedGeneration:i]"
_TOLERATION = "key operator value effect tolerationSeconds:i"
_TAINT = "key value effect timeAdded"
_WANTED = f"""deviceClassName selectors[cel{{expression}}] allocationMode count:i tolerations[{_TOLERATION}]
  capacity{{requests*}} derivedAttributes*"""
_OPAQUE = "opaque{driver parameters*}"
_CLAIM = f"""devices{{requests[name exactly{{adminAccess:b {_WANTED}}} firstAvailable[name {_WANTED}]]
  constraints[requests[] matchAttribute distinctAttribute] config[requests[] {_OPAQUE}]}}"""
_ATTRIBUTE = "int:i bool:b string version ints[] bools[] strings[] versions[]"
_DEVICE = f"""name attributes<{_ATTRIBUTE}> capacity<value* requestPolicy*> taints[{_TAINT}] consumesCounters*
  nodeName nodeSelector* allNodes:b bindsToNode:b bindingConditions[] bindingFailureConditions[]
  allowMultipleAllocations:b nodeAllocatableResources*"""
_RESULT = f"""request driver pool device shareID adminAccess:b tolerations[{_TOLERATION}] bindingConditions[]
  bindingFailureConditions[] consumedCapacity* skipNodeOperations[]"""
_CLAIM_STATUS = f"""allocation{{devices{{results[{_RESULT}] config[source requests[] {_OPAQUE}]}} nodeSelector*
  allocationTimestamp}} reservedFor[apiGroup resource name uid]
  devices[driver pool device shareID {_CONDITIONS} data* networkData{{interfaceName ips[] hardwareAddress}}]"""

_ROWS: Mapping[str, str] = MappingProxyType(
    {
        "resourceslices": f"""spec{{driver pool{{name generation:i resourceSliceCount:i}} nodeName nodeSelector*
            allNodes:b perDeviceNodeSelection:b sharedCounters* partitionTypeAttribute skipNodeOperations[]
            devices[{_DEVICE}]}}""",
        "resourceclaims": f"spec{{{_CLAIM}}} status{{{_CLAIM_STATUS}}}",
        "resourceclaimtemplates": f"spec{{metadata* spec{{{_CLAIM}}}}}",
        "deviceclasses": f"spec{{selectors[cel{{expression}}] config[{_OPAQUE}] extendedResourceName}}",
        "devicetaintrules": f"""spec{{deviceSelector{{driver pool device}} taint{{{_TAINT}}}}}
            status{{{_CONDITIONS}}}""",
    }
)
_TOKEN = re.compile(r"\s+|(?P<name>\w+)(?::(?P<type>[isb]))?(?P<open>[{\[<*])?|(?P<close>[}\]>])")
_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = MappingProxyType(
    {"i": (int, "int64"), "b": (bool, "bool"), "s": (str, "string")}
)
_JSON_NAMES = (
    (bool, "bool"),
    (dict, "object"),
    (list, "array"),
    (str, "string"),
    (int, "number"),
    (float, "number"),
)


class WrongTypeError(Exception):
    """A field holds another JSON type than its kind says."""

    def __init__(self, value: object, path: str, wanted: str) -> None:
        super().__init__(path)
        self.value = value
        self.path = path
        self.wanted = wanted

    def json_text(self) -> str:
        """As the JSON decoder puts it."""
        given = next((name for kind, name in _JSON_NAMES if isinstance(self.value, kind)), "value")
        shown = re.sub(r"\[\d+\]", "", self.path)
        return f"json: cannot unmarshal {given} into Go struct field .{shown} of type {self.wanted}"

    def schema_text(self) -> str:
        """As server-side apply puts it."""
        given = next((name for kind, name in _JSON_NAMES if isinstance(self.value, kind)), "value")
        wanted = {"int64": "numeric (int or float)", "bool": "boolean", "object": "map", "array": "list"}
        return f".{self.path}: expected {wanted.get(self.wanted, self.wanted)}, got {given}"


@dataclass(frozen=True, slots=True)
class Field:
    """One known field. `form` is object, list, map, anything or scalar; lists and maps describe their items."""

    form: Literal["object", "list", "map", "any", "scalar"]
    type: str = "s"
    fields: dict[str, "Field"] = field(default_factory=dict)


@cache
def known_fields(store_id: str) -> Field | None:
    """What is known about a kind, or None where every field is kept."""
    plural, _, group = store_id.partition(".")
    row = _ROWS.get(plural) if group == "resource.k8s.io" else None
    if row is None:
        return None
    tokens = _TOKEN.finditer(f"apiVersion kind {_METADATA} {row}")
    return Field("object", fields=_parse(tokens))


def keep_known(obj: Obj, known: Field) -> list[str]:
    """Take unknown fields out of the object in place; returns their paths. Raises WrongTypeError."""
    unknown: list[str] = []
    _walk(obj, known, "", unknown)
    return unknown


def _parse(tokens: Iterator[re.Match[str]]) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for token in tokens:
        if token["close"]:
            break
        if not token["name"]:
            continue
        match token["open"]:
            case "{":
                fields[token["name"]] = Field("object", fields=_parse(tokens))
            case "[":
                fields[token["name"]] = Field("list", fields=_parse(tokens))
            case "<":
                fields[token["name"]] = Field("map", fields=_parse(tokens))
            case "*":
                fields[token["name"]] = Field("any")
            case _:
                fields[token["name"]] = Field("scalar", type=token["type"] or "s")
    return fields


def _walk(value: Any, known: Field, path: str, unknown: list[str]) -> None:
    if value is None or known.form == "any":
        return
    match known.form:
        case "object":
            _walk_fields(_expect(value, dict, path), known, path, unknown)
        case "list":
            for place, item in enumerate(_expect(value, list, path)):
                if known.fields:
                    _walk_fields(_expect(item, dict, f"{path}[{place}]"), known, f"{path}[{place}]", unknown)
        case "map":
            for key, item in _expect(value, dict, path).items():
                _walk_fields(_expect(item, dict, f"{path}.{key}"), known, f"{path}.{key}", unknown)
        case _:
            _expect_scalar(value, known.type, path)


def _walk_fields(value: Any, known: Field, path: str, unknown: list[str]) -> None:
    if value is None:
        return
    for name in list(value):
        below = f"{path}.{name}" if path else name
        if name in known.fields:
            _walk(value[name], known.fields[name], below, unknown)
        else:
            unknown.append(below)
            del value[name]


def _expect(value: Any, wanted: type, path: str) -> Any:
    if value is None or isinstance(value, wanted):
        return value
    raise WrongTypeError(value, path, "object" if wanted is dict else "array")


def _expect_scalar(value: Any, wanted: str, path: str) -> None:
    kind, name = _TYPES[wanted]
    if not isinstance(value, kind) or (wanted == "i" and isinstance(value, bool)):
        raise WrongTypeError(value, path, name)
