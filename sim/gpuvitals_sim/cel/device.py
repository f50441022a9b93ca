"""A device of a ResourceSlice as the variable `device` of its selectors.

Place in the chain: the scheduler creates one per published device and evaluates many selectors on it.
Source: kubernetes/dynamic-resource-allocation cel/compile.go (DeviceMatches).
"""

from typing import Any

from cel_expr_python import cel

from gpuvitals_sim.cel.environment import evaluator
from gpuvitals_sim.cel.functions import quantity_value, semver_value

_SCALARS = ("int", "bool", "string")
_LISTS = ("ints", "bools", "strings")


class CelDevice:
    """`device` for evaluation, built once. Raises ValueError for an attribute that no API server accepts."""

    def __init__(self, driver: str, device: dict[str, Any]) -> None:
        value = {
            "driver": driver,
            "attributes": _by_domain(driver, device.get("attributes") or {}, _attribute),
            "capacity": _by_domain(driver, device.get("capacity") or {}, _capacity),
            "allowMultipleAllocations": bool(device.get("allowMultipleAllocations", False)),
        }
        self.activation: cel.Activation = evaluator().Activation({"device": value})


def _by_domain(driver: str, published: dict[str, Any], convert: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in published.items():
        domain, slash, identifier = key.partition("/")
        if not slash:
            domain, identifier = driver, key
        found.setdefault(domain, {})[identifier] = convert(value)
    return found


def _attribute(value: dict[str, Any]) -> Any:
    for name in (*_SCALARS, *_LISTS):
        if name in value:
            return value[name]
    if "version" in value:
        return semver_value(value["version"])
    if "versions" in value:
        return [semver_value(version) for version in value["versions"]]
    raise ValueError(f"attribute value {value!r} has none of int, bool, string, version")


def _capacity(value: dict[str, Any]) -> Any:
    return quantity_value(str(value["value"]))
