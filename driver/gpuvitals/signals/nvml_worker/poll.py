"""One poll of one GPU through pynvml: the call for each value, and the meaning of its answers. Worker process only.

Source: nvml.h of CUDA 13.5 for fields and states; docs.nvidia.com NVML API reference for their definitions.
"""

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from gpuvitals.signals.nvml_worker.protocol import (
    DRIVER_CODES,
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    INVALID_ARGUMENT,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    SUCCESS,
    GpuValues,
)

T = TypeVar("T")

FATAL = DRIVER_CODES | {GPU_IS_LOST, RESET_REQUIRED}
"""Answers about the whole GPU or the driver; after one of them no further value is read."""

_RECOVERY_ACTION_FIELD = 230
_LINK_COUNT_FIELD = 91
_LINK_STATE_FIELD = 165
_MAX_LINKS = 36
_LINK_STATES = {0: "inactive", 1: "active", 2: "sleep", 3: "inactive"}
"""3 is "active with traffic disabled": the link is unusable, so it counts as inactive.

Other numbers are unknown, neither up nor down. Source: nvml.h of CUDA 13.5, NVML_NVLINK_STATE_*.
"""
_LINK_ENABLED = {0: "inactive", 1: "active"}
"""The values of nvmlDeviceGetNvLinkState, which returns nvmlEnableState_t instead of a link state."""

_CORRECTED, _UNCORRECTED, _VOLATILE, _AGGREGATE = 0, 1, 0, 1
_MAX_COUNT = 1 << 53
"""A larger counter is garbage, and would not be exact in JSON."""

_FABRIC_STATES = {0: "not-supported", 1: "not-started", 2: "in-progress", 3: "completed"}
_FABRIC_COMPLETED = 3
_DEGRADED_BANDWIDTH, _ROUTE_RECOVERY, _ROUTE_UNHEALTHY, _ACCESS_TIMEOUT = 0, 2, 4, 6
"""The first bit of each two-bit flag in the health mask. 0 means not supported, 1 true, 2 false."""
_LESSER = (_DEGRADED_BANDWIDTH, _ROUTE_RECOVERY, _ACCESS_TIMEOUT)
_TRUE, _LAST_FLAG = 1, 2
_MISCONFIGURED_SHIFT, _CONFIGURED, _LAST_MISCONFIGURED = 8, 1, 8
_SUMMARY_UNHEALTHY, _SUMMARY_LIMITED = 2, 3
_ARGUMENT_VERSION_MISMATCH = 25
_HARDWARE_SLOWDOWN = 0x8 | 0x40 | 0x80
"""Hardware slowdown, hardware thermal slowdown, hardware power brake."""
_SLOWDOWN_THRESHOLD, _GPU_SENSOR = 1, 0


class Collector:
    """Reads values one by one, and collects unsupported values and the reasons for unreadable ones."""

    def __init__(self) -> None:
        self.unsupported: list[str] = []
        self.troubles: list[str] = []

    def take(self, name: str, call: Callable[[], T]) -> T | None:
        """The result of `call`, None if it failed. Raises NVMLError only for answers in FATAL."""
        try:
            return call()
        except pynvml.NVMLError as error:
            if error.value in FATAL:
                raise
            if error.value == NOT_SUPPORTED:
                self.unsupported.append(name)
            else:
                self.troubles.append(f"{name}: {error}")
        except ValueError as error:
            # Garbage from the library: undecodable text, or a number out of range.
            self.troubles.append(f"{name}: {error}")
        return None


def reading(handle: Any) -> GpuValues:
    """All values of one poll. Raises NVMLError for answers in FATAL."""
    found = Collector()
    remap = found.take("remap", lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    values = GpuValues(
        recovery_action=found.take("recovery_action", lambda: _field(handle, _RECOVERY_ACTION_FIELD)),
        ecc_uncorrected_volatile=found.take(
            "ecc_uncorrected_volatile", lambda: _ecc(handle, _UNCORRECTED, _VOLATILE)
        ),
        ecc_uncorrected_aggregate=found.take(
            "ecc_uncorrected_aggregate", lambda: _ecc(handle, _UNCORRECTED, _AGGREGATE)
        ),
        ecc_corrected_volatile=found.take(
            "ecc_corrected_volatile", lambda: _ecc(handle, _CORRECTED, _VOLATILE)
        ),
        sram_threshold_exceeded=found.take("sram_threshold_exceeded", lambda: _sram_exceeded(handle)),
        remap_pending=None if remap is None else found.take("remap_pending", lambda: flag(remap[2])),
        remap_failed=None if remap is None else found.take("remap_failed", lambda: flag(remap[3])),
        remapped_uncorrectable=None if remap is None else int(remap[1]),
        banks_without_spare=found.take("banks_without_spare", lambda: _banks_without_spare(handle)),
        links=found.take("links", lambda: link_states(handle)),
        fabric=found.take("fabric", lambda: _fabric(handle)),
        thermal_margin_celsius=found.take("thermal_margin_celsius", lambda: _margin(handle)),
        hardware_slowdown=found.take("hardware_slowdown", lambda: _slowed(handle)),
    )
    return _with_account(values, found)


def link_states(handle: Any) -> tuple[str, ...]:
    """The state of each NVLink, from field 165 if the driver has it, else only active or inactive."""
    count = link_count(handle)
    known: list[str] = []
    for link, state in enumerate(_state_fields(handle, count)):
        try:
            known.append(
                _LINK_ENABLED.get(int(pynvml.nvmlDeviceGetNvLinkState(handle, link)), "unknown")
                if state is None
                else _LINK_STATES.get(state, "unknown")
            )
        except pynvml.NVMLError as error:
            if error.value == INVALID_ARGUMENT:
                # Beyond the last link, with a driver that does not give the number of links.
                break
            raise
    return tuple(known)


def link_count(handle: Any) -> int:
    """The number of NVLinks, or its maximum if the driver does not give it."""
    try:
        return min(_field(handle, _LINK_COUNT_FIELD), _MAX_LINKS)
    except pynvml.NVMLError as error:
        if error.value in FATAL:
            raise
        return _MAX_LINKS


def _with_account(values: GpuValues, found: Collector) -> GpuValues:
    names = [name for name in found.unsupported if name != "remap"]
    if "remap" in found.unsupported:
        names += ["remap_pending", "remap_failed", "remapped_uncorrectable"]
    fields = {name: getattr(values, name) for name in values.__struct_fields__}
    return GpuValues(**fields | {"unsupported": tuple(names), "detail": "; ".join(found.troubles)})


def _field(handle: Any, field: int) -> int:
    value = pynvml.nvmlDeviceGetFieldValues(handle, [field])[0]
    if value.nvmlReturn != SUCCESS:
        raise field_error(value)
    return number(value)


def flag(value: Any) -> bool:
    """A flag of NVML. Raises ValueError for a number other than 0 and 1, which is no evidence either way."""
    number_of_flag = int(value)
    if number_of_flag not in (0, 1):
        raise ValueError(f"{number_of_flag} is neither 0 nor 1")
    return bool(number_of_flag)


def field_error(value: Any) -> pynvml.NVMLError:
    """The error of a field without value. A field that is unknown to the driver counts as not supported."""
    code = int(value.nvmlReturn)
    return pynvml.NVMLError(NOT_SUPPORTED if code == INVALID_ARGUMENT else code)


def number(value: Any) -> int:
    """The number in the union of a field value, by its type tag. Raises ValueError for an unknown type."""
    unions = {1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
    name = unions.get(int(value.valueType))
    if name is None:
        raise ValueError(f"field {value.fieldId} has value type {value.valueType}")
    return int(getattr(value.value, name))


def _state_fields(handle: Any, count: int) -> list[int | None]:
    """Field 165 of each link, read in one call; None for links without it."""
    if not count:
        return []
    values = pynvml.nvmlDeviceGetFieldValues(handle, [(_LINK_STATE_FIELD, link) for link in range(count)])
    return [number(value) if value.nvmlReturn == SUCCESS else None for value in values]


def _ecc(handle: Any, kind: int, counter: int) -> int:
    count = int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter))
    if count >= _MAX_COUNT:
        raise ValueError(f"count {count} is out of range")
    return count


def _sram_exceeded(handle: Any) -> bool:
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    pynvml.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    return flag(status.bThresholdExceeded)


def _banks_without_spare(handle: Any) -> int:
    return int(getattr(pynvml.nvmlDeviceGetRowRemapperHistogram(handle), "none"))  # noqa: B009 - `.none` reads as None


def _fabric(handle: Any) -> str:
    info, summary = _fabric_info(handle)
    # One byte in nvml.h, four in pynvml: the other three are padding and may hold anything.
    number = int(info.state) & 0xFF
    state = _FABRIC_STATES.get(number)
    if state is None:
        raise ValueError(f"fabric state {number} is not known")
    if number != _FABRIC_COMPLETED:
        return state
    mask = int(info.healthMask)
    wrong = (mask >> _MISCONFIGURED_SHIFT) & 0xF
    misconfigured = _CONFIGURED < wrong <= _LAST_MISCONFIGURED
    if info.status != SUCCESS or misconfigured or _flag(mask, _ROUTE_UNHEALTHY) == _TRUE:
        return "failed"
    if summary == _SUMMARY_UNHEALTHY:
        return "failed"
    lesser = any(_flag(mask, shift) == _TRUE for shift in _LESSER)
    if lesser or summary == _SUMMARY_LIMITED:
        return "degraded"
    flags = max(_flag(mask, shift) for shift in (*_LESSER, _ROUTE_UNHEALTHY))
    if wrong > _LAST_MISCONFIGURED or flags > _LAST_FLAG or summary > _SUMMARY_LIMITED:
        raise ValueError(f"fabric health {mask:#x} with summary {summary} is not known")
    return state


def _fabric_info(handle: Any) -> tuple[Any, int]:
    """The structure and its summary. Drivers without version 3 of the structure have no summary: 0."""
    info = pynvml.c_nvmlGpuFabricInfo_v3_t()
    try:
        pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
        return info, int(info.healthSummary)
    except pynvml.NVMLError as error:
        if error.value != _ARGUMENT_VERSION_MISMATCH:
            raise
    older = pynvml.c_nvmlGpuFabricInfo_v2_t()
    pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(older))
    return older, 0


def _flag(mask: int, shift: int) -> int:
    return (mask >> shift) & 0x3


def _margin(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMarginTemperature(handle))
    except pynvml.NVMLError as error:
        if error.value not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):
            raise
    limit = int(pynvml.nvmlDeviceGetTemperatureThreshold(handle, _SLOWDOWN_THRESHOLD))
    return limit - int(pynvml.nvmlDeviceGetTemperature(handle, _GPU_SENSOR))


def _slowed(handle: Any) -> bool:
    return bool(clock_reasons(handle) & _HARDWARE_SLOWDOWN)


def clock_reasons(handle: Any) -> int:
    """The active clock event reasons, as bits."""
    try:
        return int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except pynvml.NVMLError as error:
        if error.value != FUNCTION_NOT_FOUND:
            raise
        # The name before R535.
        return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
