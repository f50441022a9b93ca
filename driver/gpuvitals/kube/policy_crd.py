"""The CustomResourceDefinition of GPUHealthPolicy, with the validation that the API server performs.

The chart's template is generated from this module, and the simulated API server uses it too.
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
    """The CustomResourceDefinition in that API group."""
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
        "description": "A health policy: the GPUs that it applies to, the thresholds of their health evaluation, and the permitted "
        "actions.",
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
        "description": "If several policies match a GPU, only the one with the highest priority applies.",
        "properties": {
            "match": _match(),
            "priority": {
                "type": "integer",
                "format": "int32",
                "description": "The matching policy with the highest priority applies. Different policies of equal priority "
                "conflict: the previous policy stays in force, and an event on the Node reports it.",
                "default": 0,
                "minimum": -1000,
                "maximum": 1000,
            },
            "mode": {
                "type": "string",
                "description": "Observe: publish verdicts, but take no GPU out of service. Isolate: take failed GPUs out of "
                "service. Reset: also restart services and reset GPUs. Full: also act on the node. The agent treats "
                "Reset and Full as Isolate.",
                "default": Mode.ISOLATE.value,
                "enum": [mode.value for mode in Mode],
            },
            "pause": {
                "type": "boolean",
                "description": "While true, no GPU enters or leaves service. Verdicts are still published.",
                "default": False,
            },
            "health": {
                "type": "object",
                "description": "Thresholds that replace the agents' own values. docs/reference/policy.md describes each.",
                "properties": {camel(value.name): _value(value) for value in VALUES},
                "x-kubernetes-validations": [_pair(pair) for pair in PAIRS],
            },
        },
    }


def _match() -> Json:
    return {
        "type": "object",
        "description": "Selects GPUs. Every entry must match; without entries the policy applies to all GPUs.",
        "default": {},
        "properties": {
            "nodeLabels": _equal(
                "Labels of the Node, all of which must be equal.",
                63,
                "self.all(key, size(key) <= 317)",
                "a label's key has at most 317 characters",
            ),
            "deviceAttributes": _equal(
                "Attributes of the device as published in its ResourceSlice, except those of its health: productName, "
                "uuid, architecture, resource.kubernetes.io/pciBusID, ...",
                64,
                "self.all(key, !key.startsWith('health/'))",
                "a device can't be matched by its health, since the policy itself changes it",
            ),
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
        "description": f"Unit: {value.unit}. Default: {value.default}. Purpose: {why}.",
        "minimum": value.minimum,
        "maximum": MAX_VALUE,
    }
