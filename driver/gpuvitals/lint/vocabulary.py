"""The attributes that gpuvitals publishes: type, range, values, and whether every device has them.

The list is derived from the published attributes of an example device, so it includes attributes that are added later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import Enum

from gpuvitals.health.fault_classes import RECOVERY_ACTIONS
from gpuvitals.health.policy import Policy
from gpuvitals.health.reasons import entries, is_reason
from gpuvitals.health.state import initial_state
from gpuvitals.health.verdict import verdict
from gpuvitals.inventory.attributes import attributes, capacities
from gpuvitals.inventory.device import AttributeValue, Version
from gpuvitals.inventory.naming import Naming
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.health import HealthClass, HealthState, NvlinkStatus, RowRemap
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.snapshot import GpuHealth

STANDARD = "resource.kubernetes.io"
"""Kubernetes' own domain, used by all drivers."""
TAINTS = ("unhealthy", "degraded", "unknown")

_NOW = Moment(at=0.0, time=datetime(2026, 1, 1, tzinfo=UTC))
_PERCENT = ("score", "nvlinkBandwidthPercent", "coverage")
_PROMISED = ("uuid", "type", "productName")
"""Keys of the driver's domain that every device has. Every device has all keys of the health domain."""
_PROMISED_CAPACITIES = ("memory",)
_EXAMPLE = Gpu(
    uuid=GpuUuid("MIG-example"),
    bus_id=PciBusId("0000:00:00.0"),
    kind=DeviceKind.MIG,
    product_name="example",
    architecture="example",
    brand="example",
    minor=0,
    memory_bytes=1,
    numa_node=0,
    pcie_root="pci0000:00",
    driver_version="1.0.0",
    cuda_driver_version="1.0.0",
    cuda_compute_capability="1.0.0",
    mig=MigInstance(
        parent=GpuUuid("GPU-example"),
        profile="1g.10gb",
        gpu_instance=0,
        compute_instance=0,
        multiprocessors=1,
        copy_engines=1,
        decoders=1,
        encoders=1,
        jpeg_engines=1,
    ),
)


class Kind(Enum):
    """The type of a value, as shown in findings."""

    INT = "a whole number"
    STRING = "a string"
    BOOL = "true or false"
    VERSION = "a version"
    QUANTITY = "a quantity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One published key. `values` is empty if any string is possible; `lowest` and `highest` are None if unbounded.

    `always`: every device has the key.
    """

    which: str
    domain: str
    key: str
    kind: Kind
    always: bool
    values: tuple[str, ...] = ()
    lowest: int | None = None
    highest: int | None = None


class Vocabulary:
    """All published keys, with the domain names of one installation."""

    def __init__(self, naming: Naming | None = None) -> None:
        self.naming = naming or Naming()
        self._known = {(one.which, one.domain, one.key): one for one in _listed(self.naming)}

    def find(self, which: str, domain: str, key: str) -> Attribute | None:
        """The key, None if gpuvitals does not publish it. `which` is `attributes` or `capacity`."""
        return self._known.get((which, domain, key))

    def owns(self, domain: str) -> bool:
        """Whether the domain belongs to gpuvitals, so that no other driver publishes keys in it."""
        return domain in (self.naming.driver, self.naming.attribute_domain)

    def find_in_any_domain(self, which: str, key: str) -> Attribute | None:
        """A key with this name in any domain."""
        return next((one for one in self._known.values() if (one.which, one.key) == (which, key)), None)

    def nearest(self, which: str, domain: str, key: str) -> str | None:
        """The most similar key of the domain."""
        return nearest(
            key, (one.key for one in self._known.values() if (one.which, one.domain) == (which, domain))
        )

    def is_value(self, attribute: Attribute, value: str) -> bool:
        """Whether the attribute can have the value. Reasons include XIDs that are not listed."""
        of_reason = (attribute.domain, attribute.key) == (self.naming.attribute_domain, "reason")
        return not attribute.values or value in attribute.values or (of_reason and is_reason(value))

    def taint_keys(self) -> tuple[str, ...]:
        """The keys of the taints that the agent sets."""
        return tuple(f"{self.naming.driver}/{name}" for name in TAINTS)

    def all(self) -> tuple[Attribute, ...]:
        """Every key, in the order of publication, capacities last."""
        return tuple(self._known.values())


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar word, ignoring case; None if none is similar."""
    folded = {one.lower(): one for one in words}
    found = get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _listed(naming: Naming) -> Iterable[Attribute]:
    judged = verdict(initial_state(_EXAMPLE, _NOW), _NOW, Policy())
    entry = GpuHealth(gpu=_EXAMPLE, verdict=judged, isolated=False, state_since=_NOW.time)
    values = _values()
    for name, value in attributes(entry, naming):
        prefix, slash, last = name.rpartition("/")
        domain, key = (prefix, last) if slash else (naming.driver, name)
        of_health = domain == naming.attribute_domain
        yield Attribute(
            which="attributes",
            domain=domain,
            key=key,
            kind=_kind(value),
            always=of_health or (domain == naming.driver and key in _PROMISED),
            values=values.get(key, ()) if of_health or key == "type" else (),
            lowest=0 if _kind(value) is Kind.INT else None,
            highest=100 if of_health and key in _PERCENT else None,
        )
    for key, _ in capacities(_EXAMPLE):
        yield Attribute(
            which="capacity",
            domain=naming.driver,
            key=key,
            kind=Kind.QUANTITY,
            always=key in _PROMISED_CAPACITIES,
        )


def _kind(value: AttributeValue) -> Kind:
    match value:
        case bool():
            return Kind.BOOL
        case int():
            return Kind.INT
        case Version():
            return Kind.VERSION
        case str():
            return Kind.STRING


def _values() -> dict[str, tuple[str, ...]]:
    enums: dict[str, type[Enum]] = {
        "class": HealthClass,
        "state": HealthState,
        "nvlinkStatus": NvlinkStatus,
        "rowRemap": RowRemap,
        "type": DeviceKind,
    }
    values = {key: tuple(str(one.value) for one in enum) for key, enum in enums.items()}
    actions = (*(name for name, _ in RECOVERY_ACTIONS.values()), "Unknown")
    return {
        **values,
        "reason": tuple(str(entry.reason) for entry in entries()),
        "recoveryAction": tuple(dict.fromkeys(actions)),
    }
