"""The CustomResourceDefinition of GPUHealthPolicy, by which the API server checks the objects that people write.

The chart's template is generated from this module, and the simulation serves it, so there is one schema.
"""

from typing import Any

from gpuvitals.health.policy_pairs import PAIRS, PolicyPair, as_object_fields, camel, cel_rule
from gpuvitals.health.policy_values import MAX_VALUE, VALUES, PolicyValue
from gpuvitals.inventory.policy_match import Mode

Json = dict[str, Any]

KIND, PLURAL, VERSION = "GPUHealthPolicy", "gpuhealthpolicies", "v1alpha1"
_MAX_MATCHES = 16
_NAMES = {value.name: value for value in VALUES}


def policy_definition(group: str) -> Json:
    """The definition in that API group."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ghp"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def _columns() -> list[Json]:
    return [
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
        {"name": "Paused", "type": "boolean", "jsonPath": ".spec.pause"},
        {"name": "Priority", "type": "integer", "jsonPath": ".spec.priority"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _schema() -> Json:
    return {
        "type": "object",
        "description": "Health policy values for the GPUs that match, and the actions that are allowed on them.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec(),
        },
    }


def _spec() -> Json:
    return {
        "type": "object",
        "description": "Of all policies that match a GPU, only the one with the highest priority applies.",
        "properties": {
            "match": {
                "type": "object",
                "description": "The GPUs that the policy applies to. Every entry must be equal; without entries it applies to all GPUs.",
                "default": {},
                "properties": {
                    "nodeLabels": _equal(
                        "Labels of the Node.",
                        63,
                        "self.all(key, size(key) <= 317)",
                        "a label's key has at most 317 characters",
                    ),
                    "deviceAttributes": _equal(
                        "Attributes of the device as its slice shows them, except those of its health: productName, "
                        "uuid, architecture, resource.kubernetes.io/pciBusID, ...",
                        64,
                        "self.all(key, !key.startsWith('health/'))",
                        "a device cannot be matched by its health, since the policy changes it",
                    ),
                },
            },
            "priority": {
                "type": "integer",
                "format": "int32",
                "description": "Of the policies that match a GPU, the one with the highest priority applies. Two that "
                "differ and have the same priority are ambiguous: the previous policy stays, with an event on the Node.",
                "default": 0,
                "minimum": -1000,
                "maximum": 1000,
            },
            "mode": {
                "type": "string",
                "description": "Observe: report only. Isolate: take failed GPUs out of service. "
                "Reset: also restart services and reset GPUs. Full: also act on the node. The agent treats the last "
                "two as Isolate.",
                "default": Mode.ISOLATE.value,
                "enum": [mode.value for mode in Mode],
            },
            "pause": {
                "type": "boolean",
                "description": "While true, no GPU enters or leaves service; verdicts are still reported.",
                "default": False,
            },
            "health": {
                "type": "object",
                "description": "Policy values that replace those of the agents. docs/reference/policy.md lists them.",
                "properties": {camel(value.name): _value(value) for value in VALUES},
                "x-kubernetes-validations": [_pair(pair) for pair in PAIRS],
            },
        },
    }


def _equal(description: str, longest: int, rule: str, message: str) -> Json:
    return {
        "type": "object",
        "description": description,
        "maxProperties": _MAX_MATCHES,
        "additionalProperties": {"type": "string", "maxLength": longest},
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    }


def _pair(pair: PolicyPair) -> Json:
    return {
        "rule": cel_rule(pair),
        "message": as_object_fields(f"expected {pair.rule}: {pair.why}", _NAMES),
        "fieldPath": f".{camel(pair.names[0])}",
    }


def _value(value: PolicyValue) -> Json:
    why = as_object_fields(value.why, _NAMES)
    return {
        "type": "integer",
        "format": "int32",
        "description": f"In {value.unit}; {value.default} if not set: {why}.",
        "minimum": value.minimum,
        "maximum": MAX_VALUE,
    }
