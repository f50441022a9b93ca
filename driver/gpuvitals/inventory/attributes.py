"""The published attributes and capacities of a device: keys, values, and the conditions for omitting a key.

Health keys, `uuid`, `type` and `productName` are on every device always, since a selector that reads a missing key
aborts the scheduling of its pod. Keys of topology and of MIG appear only with a real value: an empty string would
match another empty string in a constraint.
"""

import re
from collections.abc import Iterator

from gpuvitals.inventory.device import MAX_STRING, AttributeValue, Version, quantity
from gpuvitals.inventory.naming import Naming
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.snapshot import GpuHealth

_VERSION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?\Z", re.ASCII)
_UNNAMED = "unknown"


def attributes(entry: GpuHealth, naming: Naming) -> tuple[tuple[str, AttributeValue], ...]:
    """All attributes of a device, sorted by key. No string is empty or longer than the API accepts."""
    pairs = [*_health(entry.shown, naming), *attributes_of(entry.gpu)]
    return tuple(sorted((key, _bounded(value)) for key, value in pairs))


def attributes_of(gpu: Gpu) -> Iterator[tuple[str, AttributeValue]]:
    """The attributes that do not depend on health: identity, versions, topology. Policies can match on these."""
    yield from _identity(gpu)
    yield from _versions(gpu)
    yield from _topology(gpu)


def capacities(gpu: Gpu) -> tuple[tuple[str, str], ...]:
    """All capacities of a device as quantities, sorted by key: memory and, for a MIG instance, its engines."""
    counts = [("memory", gpu.memory_bytes)]
    if gpu.mig is not None:
        engines = (
            ("multiprocessors", gpu.mig.multiprocessors),
            ("copyEngines", gpu.mig.copy_engines),
            ("decoders", gpu.mig.decoders),
            ("encoders", gpu.mig.encoders),
            ("jpegEngines", gpu.mig.jpeg_engines),
        )
        counts += [(key, count) for key, count in engines if count]
    return tuple(sorted((key, quantity(count)) for key, count in counts))


def semver(text: str) -> Version | None:
    """A version as strict semver, None if it cannot be one: `535.54.03` -> `535.54.3`, `12.8` -> `12.8.0`."""
    match = _VERSION.match(text)
    if match is None:
        return None
    return Version(".".join(str(int(part or "0")) for part in match.groups()))


def omitted_versions(gpu: Gpu) -> tuple[str, ...]:
    """The version keys that are omitted because the driver's text is no version. An empty text is not counted."""
    return tuple(key for key, text in _version_texts(gpu) if text and semver(text) is None)


def _health(verdict: Verdict, naming: Naming) -> Iterator[tuple[str, AttributeValue]]:
    values: dict[str, AttributeValue] = {
        "score": verdict.score,
        "class": verdict.health_class.value,
        "state": verdict.state.value,
        "reason": verdict.reason,
        "xidErrors": verdict.xid_errors,
        "lastXid": verdict.last_xid,
        "nvlinkStatus": verdict.nvlink_status.value,
        "nvlinkBandwidthPercent": verdict.nvlink_bandwidth_percent,
        "eccUncorrected": verdict.ecc_uncorrected,
        "rowRemap": verdict.row_remap.value,
        "recoveryAction": verdict.recovery_action,
        "coverage": verdict.coverage,
    }
    for key, value in values.items():
        yield f"{naming.attribute_domain}/{key}", value


def _identity(gpu: Gpu) -> Iterator[tuple[str, AttributeValue]]:
    yield "uuid", gpu.uuid
    yield "type", gpu.kind.value
    yield "productName", gpu.product_name or _UNNAMED
    if gpu.architecture:
        yield "architecture", gpu.architecture
    if gpu.brand:
        yield "brand", gpu.brand
    if gpu.minor is not None:
        yield "minor", gpu.minor
    if gpu.mig is not None:
        yield "parentUUID", gpu.mig.parent
        if gpu.mig.profile:
            yield "profile", gpu.mig.profile


def _versions(gpu: Gpu) -> Iterator[tuple[str, AttributeValue]]:
    for key, text in _version_texts(gpu):
        version = semver(text)
        if version is not None:
            yield key, version


def _version_texts(gpu: Gpu) -> tuple[tuple[str, str], ...]:
    return (
        ("driverVersion", gpu.driver_version),
        ("cudaDriverVersion", gpu.cuda_driver_version),
        ("cudaComputeCapability", gpu.cuda_compute_capability),
    )


def _topology(gpu: Gpu) -> Iterator[tuple[str, AttributeValue]]:
    yield "resource.kubernetes.io/pciBusID", gpu.bus_id
    if gpu.pcie_root:
        yield "resource.kubernetes.io/pcieRoot", gpu.pcie_root
    if gpu.numa_node is not None and gpu.numa_node >= 0:
        yield "resource.kubernetes.io/numaNode", gpu.numa_node


def _bounded(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str) and len(value.encode()) > MAX_STRING:
        return value.encode()[:MAX_STRING].decode(errors="ignore")
    return value
