"""The CustomResourceDefinition of GPUHealthPolicy: what a person may write, checked by the API server.

The chart's template is generated from here, and the simulation serves it, so that there is one schema.
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
        "description": "Which GPUs are judged by which values, and how far the product may go with them.",
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
        "description": "Of all policies that match a GPU the one with the highest priority governs it, alone.",
        "properties": {
            "match": {
                "type": "object",
                "description": "The GPUs that are meant; every entry must be equal. Without entries: all GPUs.",
                "default": {},
                "properties": {
                    "nodeLabels": _equal(
                        "Labels of the Node.",
                        63,
                        "self.all(key, size(key) <= 317)",
                        "a label's key has at most 317 characters",
                    ),
                    "deviceAttributes": _equal(
                        "Attributes of the device as its slice shows them, but for those of its health: productName, "
                        "uuid, architecture, resource.kubernetes.io/pciBusID, ...",
                        64,
                        "self.all(key, !key.startsWith('health/'))",
                        "a device can't be matched by its health: that would change with what the policy does",
                    ),
                },
            },
            "priority": {
                "type": "integer",
                "format": "int32",
                "description": "The highest of those that match governs. Two equal ones that differ are ambiguous: "
                "what governed before goes on, with an event on the Node.",
                "default": 0,
                "minimum": -1000,
                "maximum": 1000,
            },
            "mode": {
                "type": "string",
                "description": "Observe: tell, and take nothing out of service. Isolate: take failed GPUs out. "
                "Reset: also restart services and reset GPUs. Full: also act on the node. The agent treats the last "
                "two as Isolate.",
                "default": Mode.ISOLATE.value,
                "enum": [mode.value for mode in Mode],
            },
            "pause": {
                "type": "boolean",
                "description": "While true, no GPU enters or leaves service; verdicts are told as always.",
                "default": False,
            },
            "health": {
                "type": "object",
                "description": "Values of the judgement, in place of the agents' own. docs/reference/policy.md has them.",
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
        "description": f"In {value.unit}; {value.default} where not set: {why}.",
        "minimum": value.minimum,
        "maximum": MAX_VALUE,
    }
