"""A node's scripted GPUs as the state file of the mock libnvidia-ml.so.1 (`tools/nvml_mock`), which has no JSON.

With it the real NVML binding reads the same GPUs as the scripted worker does. The keys are those of `nvml_mock.h`.
"""

from collections.abc import Iterator

from gpuvitals.model.signal import Checkup
from gpuvitals_sim.hardware.state_file import EventScript, GpuScript, NodeScript, Readings, StateError

_UNKNOWN, _NOT_SUPPORTED = 999, 3
_LINKS = {"inactive": 0, "active": 1, "sleep": 2, "unknown": 7}
_FABRICS = {
    "not-supported": 0,
    "not-started": 1,
    "in-progress": 2,
    "completed": 3,
    "degraded": 3,
    "failed": 3,
}
_FABRIC_HEALTH = {"failed": 1 << 4, "degraded": 1}
_HARDWARE_SLOWDOWN, _IDLE = 0x8, 0x1
_ARCHITECTURES = {"Turing": 6, "Ampere": 7, "Ada Lovelace": 8, "Hopper": 9, "Blackwell": 10}
_BRANDS = {"Tesla": 2, "Nvidia": 14}
_XID, _RECOVERY_ACTION = 0x8, 0x8000
_OF_THE_DRIVER = ("nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlEventSetWait_v2")

_CALLS = {
    "sram_threshold_exceeded": ("nvmlDeviceGetSramEccErrorStatus",),
    "remap_pending": ("nvmlDeviceGetRemappedRows",),
    "banks_without_spare": ("nvmlDeviceGetRowRemapperHistogram",),
    "fabric": ("nvmlDeviceGetGpuFabricInfoV",),
    "thermal_margin_celsius": ("nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureThreshold"),
    "hardware_slowdown": (
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
    ),
    "links": ("nvmlDeviceGetNvLinkState",),
}
"""The calls that return each value; they fail if it is scripted as unreadable."""


_CHECKED_FIELDS = {
    "pcie_replays": (94,),
    "pcie_fatal_errors": (180,),
    "retired_pages": (29, 30),
    "page_retirement_pending": (31,),
}
_LINK_SUMS = {"link_replays": (52,), "link_recoveries": (59,), "link_crc_errors": (38, 45)}
_LINK_FIELDS = {
    "link_replays": (161,),
    "link_recoveries": (162,),
    "link_crc_errors": (163,),
    "link_recoveries_failed": (214,),
    "link_errors_per_petabit": (220,),
}
_OF_EACH_LINK = frozenset({161, 162, 163, 214, 220})
_CHECKED_CALLS = {
    "pcie_lanes": ("nvmlDeviceGetCurrPcieLinkWidth", "pcie.width"),
    "pcie_lanes_max": ("nvmlDeviceGetMaxPcieLinkWidth", "pcie.maxwidth"),
    "pcie_generation": ("nvmlDeviceGetCurrPcieLinkGeneration", "pcie.generation"),
    "pcie_generation_max": ("nvmlDeviceGetMaxPcieLinkGeneration", "pcie.maxgeneration"),
    "repair_pending": ("nvmlDeviceGetRepairStatus", "repair.tpc"),
    "memory_unrepairable": ("nvmlDeviceGetUnrepairableMemoryFlag_v1", "unrepairable"),
    "power_milliwatts": ("nvmlDeviceGetPowerUsage", "power"),
    "processes": ("nvmlDeviceGetComputeRunningProcesses_v3", "processes"),
}
"""Fields, calls and keys of the mock by value of a checkup."""
_PETABIT_EXPONENT, _MAX_MANTISSA = 15, 15


def nvml_facts(state: NodeScript) -> str:
    """The content of the file. Events refer to GPUs by index, which never changes in a scripted node."""
    places = {gpu.uuid: place for place, gpu in enumerate(state.gpus)}
    major, minor = (int(part) for part in state.cuda_driver_version.split("."))
    lines = [f"node driver_version {state.driver_version}", f"node cuda {major * 1000 + minor * 10}"]
    if state.driver_error:
        lines += [f"node return.{call} {state.driver_error}" for call in _OF_THE_DRIVER]
    for place, gpu in enumerate(state.gpus):
        facts = dict(_facts(gpu)) | ({"return": state.driver_error} if state.driver_error else {})
        lines += [f"gpu {place} {key} {value}" for key, value in facts.items()]
    lines += [_event(event, places[event.uuid]) for event in state.events]
    return "\n".join(lines) + "\n"


def _facts(gpu: GpuScript) -> Iterator[tuple[str, object]]:
    yield "uuid", gpu.uuid
    yield "bus", f"0000{gpu.bus_id}".upper()
    yield "name", gpu.name
    yield "serial", gpu.serial
    yield "minor", gpu.minor
    yield "memory", gpu.memory_bytes
    yield "architecture", _ARCHITECTURES.get(gpu.architecture, 0)
    yield "brand", _BRANDS.get(gpu.brand, 0)
    yield "capability", gpu.cuda_compute_capability.replace(".", "")
    yield "gone", int(not gpu.enumerated)
    yield "hanguntil", int(gpu.hang_until * 1000)
    if gpu.error:
        yield "return", gpu.error
    slowed = _HARDWARE_SLOWDOWN if gpu.readings.hardware_slowdown else 0
    yield "reasons", slowed | (_IDLE if gpu.checkup.idle else 0)
    yield from _readings(gpu.readings)
    yield from _checkup(gpu.checkup, keeps_sums=gpu.architecture != "Blackwell")
    yield from _division(gpu)


def _readings(readings: Readings) -> Iterator[tuple[str, object]]:
    yield from _failing(readings)
    if readings.recovery_action is not None:
        yield "field.230", readings.recovery_action
    elif "recovery_action" not in readings.unsupported:
        yield "fieldret.230", _UNKNOWN
    for key, value in (
        ("1.0", readings.ecc_uncorrected_volatile),
        ("1.1", readings.ecc_uncorrected_aggregate),
        ("0.0", readings.ecc_corrected_volatile),
    ):
        yield (f"ecc.{key}", value) if value is not None else (f"eccret.{key}", _NOT_SUPPORTED)
    yield "sram", int(bool(readings.sram_threshold_exceeded))
    yield "pending", int(bool(readings.remap_pending))
    yield "failed", int(bool(readings.remap_failed))
    yield "remapped", readings.remapped_uncorrectable or 0
    yield "nospare", readings.banks_without_spare or 0
    yield "margin", readings.thermal_margin_celsius or 0
    if readings.fabric is not None:
        yield "fabric", _FABRICS[readings.fabric]
        yield "fabrichealth", _FABRIC_HEALTH.get(readings.fabric, 0)
    if readings.links is not None:
        yield "links", len(readings.links)
        yield "field.91", len(readings.links)
        for link, name in enumerate(readings.links):
            yield f"linkstate.{link}", _LINKS[name]


def _checkup(checkup: Checkup, *, keeps_sums: bool) -> Iterator[tuple[str, object]]:
    """The checkup. Up to NVLink 4 the driver sums over the links; later the first link has the whole value."""
    fields = _CHECKED_FIELDS | (_LINK_SUMS if keeps_sums else _LINK_FIELDS)
    for name, (field, *rest) in fields.items():
        value = getattr(checkup, name)
        if value is None:
            if name not in checkup.unsupported:
                yield f"fieldret.{field}", _UNKNOWN
            continue
        yield f"field.{field}", 0 if field in _OF_EACH_LINK else int(value)
        if field in _OF_EACH_LINK:
            yield f"field.{field}.0", packed_rate(value) if name == "link_errors_per_petabit" else value
        for other in rest:
            yield f"field.{other}", 0
    for name, (call, key) in _CHECKED_CALLS.items():
        value = getattr(checkup, name)
        if value is None:
            yield f"return.{call}", _NOT_SUPPORTED if name in checkup.unsupported else _UNKNOWN
        else:
            yield key, int(value)


def packed_rate(errors_per_petabit: int) -> int:
    """The bit error rate in the driver's format. Raises StateError unless it is 0 to 15 times a power of ten."""
    mantissa, exponent = errors_per_petabit, _PETABIT_EXPONENT
    while mantissa > _MAX_MANTISSA and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent - 1
    if mantissa > _MAX_MANTISSA or exponent < 0:
        raise StateError(f"link_errors_per_petabit {errors_per_petabit}: is not 0 to 15 times a power of ten")
    return mantissa << 8 | exponent


def _failing(readings: Readings) -> Iterator[tuple[str, object]]:
    for name, calls in _CALLS.items():
        if getattr(readings, name) is None:
            code = _NOT_SUPPORTED if name in readings.unsupported else _UNKNOWN
            for call in calls:
                yield f"return.{call}", code


def _division(gpu: GpuScript) -> Iterator[tuple[str, object]]:
    if not gpu.mig.enabled:
        return
    yield "migmode", 1
    for place, each in enumerate(gpu.mig.instances):
        yield f"mig.{place}.uuid", each.uuid
        yield f"mig.{place}.name", f"{gpu.name} MIG {each.profile}"
        yield f"mig.{place}.gi", each.gpu_instance
        yield f"mig.{place}.ci", each.compute_instance
        yield f"mig.{place}.sms", each.multiprocessors
        yield f"mig.{place}.copy", each.copy_engines
        yield f"mig.{place}.decoders", each.decoders
        yield f"mig.{place}.encoders", each.encoders
        yield f"mig.{place}.jpegs", each.jpeg_engines
        yield f"mig.{place}.memory", each.memory_bytes >> 20
        if each.gpu_start is not None:
            yield f"mig.{place}.start", each.gpu_start
        if each.compute_start is not None:
            yield f"mig.{place}.cistart", each.compute_start


def _event(event: EventScript, place: int) -> str:
    if not event.xid:
        return f"event {event.number} {place} {_RECOVERY_ACTION:#x}"
    instance = "" if event.gpu_instance is None else f" {event.gpu_instance}"
    return f"event {event.number} {place} {_XID:#x} {event.xid}{instance}"
