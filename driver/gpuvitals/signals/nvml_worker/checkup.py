"""One checkup of one GPU through pynvml: counters and flags that change slowly or are expensive to read. Worker only.

Source: nvml.h of CUDA 13.5 for fields; NVIDIA/DCGM v4.6.0 for the fields that show wear.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import Checkup, Source
from gpuvitals.signals.nvml_worker.poll import (
    FATAL,
    Collector,
    clock_reasons,
    field_error,
    flag,
    link_count,
    number,
)
from gpuvitals.signals.nvml_worker.protocol import FUNCTION_NOT_FOUND, NOT_SUPPORTED, SUCCESS

_CRC_FLIT, _CRC_DATA, _REPLAYS, _RECOVERIES = 38, 45, 52, 59
"""Sums over all links, up to NVLink 4."""
_LINK_REPLAYS, _LINK_RECOVERIES, _LINK_CRC = 161, 162, 163
_LINK_RECOVERIES_FAILED, _LINK_ERROR_RATE = 214, 220
"""Per link, from NVLink 4 and 5 on. The rate is after error correction."""
_OF_A_LINK = (_LINK_REPLAYS, _LINK_RECOVERIES, _LINK_CRC, _LINK_RECOVERIES_FAILED, _LINK_ERROR_RATE)
_PCIE_REPLAYS, _PCIE_FATAL_ERRORS = 94, 180
_RETIRED_SINGLE, _RETIRED_DOUBLE, _RETIREMENT_PENDING = 29, 30, 31
_OF_THE_GPU = (
    _CRC_FLIT,
    _CRC_DATA,
    _REPLAYS,
    _RECOVERIES,
    _PCIE_REPLAYS,
    _PCIE_FATAL_ERRORS,
    _RETIRED_SINGLE,
    _RETIRED_DOUBLE,
    _RETIREMENT_PENDING,
)
_IDLE = 0x1
_PETABIT_EXPONENT = 15

Fields = dict[tuple[int, int], Any]
"""Field values by field and link. Fields of the whole GPU have link 0."""


def checkup(handle: Any, uuid: GpuUuid, clock: Clock) -> Checkup:
    """A checkup of one GPU. Raises NVMLError for answers in FATAL."""
    found = Collector()
    fields = found.take("fields", lambda: _fields(handle))
    values: dict[str, Any] = {name: found.take(name, partial(call, handle)) for name, call in _CALLS.items()}
    if fields is not None:
        values |= {name: found.take(name, partial(call, fields)) for name, call in _FROM_FIELDS.items()}
    return Checkup(
        source=Source.NVML_POLL,
        seen=clock.now(),
        uuid=uuid,
        **values,
        unsupported=frozenset(found.unsupported),
        detail="; ".join(found.troubles),
    )


def error_rate(packed: int) -> int:
    """Errors per 10^15 bits, rounded down. Bits 11:8 are the mantissa, bits 7:0 the exponent: `0x60c` is 6 x 10^-12."""
    mantissa, exponent = (packed >> 8) & 0xF, packed & 0xFF
    if exponent > _PETABIT_EXPONENT + 1:
        return 0
    return int(mantissa * 10 ** (_PETABIT_EXPONENT + 1 - exponent) // 10)


def _fields(handle: Any) -> Fields:
    """All fields, read in one call."""
    wanted = [(field, 0) for field in _OF_THE_GPU]
    wanted += [(field, link) for link in range(_present_links(handle)) for field in _OF_A_LINK]
    values = pynvml.nvmlDeviceGetFieldValues(handle, wanted)
    return dict(zip(wanted, values, strict=True))


def _present_links(handle: Any) -> int:
    try:
        pynvml.nvmlDeviceGetNvLinkState(handle, 0)
    except pynvml.NVMLError as error:
        if error.value in FATAL:
            raise
        return 0
    return link_count(handle)


def _counted(fields: Fields, of_a_link: int, *of_the_gpu: int) -> int:
    """The driver's sum over all links if it keeps one, else the sum of the links' counters."""
    if of_the_gpu:
        try:
            return _sum(fields, 0, *of_the_gpu)
        except pynvml.NVMLError as error:
            if error.value in FATAL:
                raise
    return sum(_sum(fields, link, of_a_link) for link in _links(fields))


def _worst_rate(fields: Fields) -> int:
    return max(error_rate(_sum(fields, link, _LINK_ERROR_RATE)) for link in _links(fields))


def _links(fields: Fields) -> list[int]:
    """The links that were read; link 0 on a GPU without links."""
    return sorted({link for _, link in fields})


def _sum(fields: Fields, link: int, *wanted: int) -> int:
    total = 0
    for field in wanted:
        value = fields.get((field, link))
        if value is None:
            raise pynvml.NVMLError(NOT_SUPPORTED)
        if value.nvmlReturn != SUCCESS:
            raise field_error(value)
        total += number(value)
    return total


def _repair_pending(handle: Any) -> bool:
    return any(flag(each) for each in pynvml.nvmlDeviceGetRepairStatus(handle))


def _unrepairable(handle: Any) -> bool:
    call = getattr(pynvml, "nvmlDeviceGetUnrepairableMemoryFlag_v1", None)
    if call is None:
        # Older versions of pynvml lack the function.
        raise pynvml.NVMLError(FUNCTION_NOT_FOUND)
    return flag(call(handle))


_CALLS: dict[str, Callable[[Any], int]] = {
    "pcie_lanes": lambda handle: int(pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
    "pcie_lanes_max": lambda handle: int(pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
    "pcie_generation": lambda handle: int(pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
    "pcie_generation_max": lambda handle: int(pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
    "idle": lambda handle: bool(clock_reasons(handle) & _IDLE),
    "repair_pending": _repair_pending,
    "memory_unrepairable": _unrepairable,
    "power_milliwatts": lambda handle: int(pynvml.nvmlDeviceGetPowerUsage(handle)),
    "processes": lambda handle: len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)),
}
"""Values with a call each."""

_FROM_FIELDS: dict[str, Callable[[Fields], int]] = {
    "link_replays": lambda fields: _counted(fields, _LINK_REPLAYS, _REPLAYS),
    "link_recoveries": lambda fields: _counted(fields, _LINK_RECOVERIES, _RECOVERIES),
    "link_recoveries_failed": lambda fields: _counted(fields, _LINK_RECOVERIES_FAILED),
    "link_crc_errors": lambda fields: _counted(fields, _LINK_CRC, _CRC_FLIT, _CRC_DATA),
    "link_errors_per_petabit": _worst_rate,
    "pcie_replays": lambda fields: _sum(fields, 0, _PCIE_REPLAYS),
    "pcie_fatal_errors": lambda fields: _sum(fields, 0, _PCIE_FATAL_ERRORS),
    "retired_pages": lambda fields: _sum(fields, 0, _RETIRED_SINGLE, _RETIRED_DOUBLE),
    "page_retirement_pending": lambda fields: flag(_sum(fields, 0, _RETIREMENT_PENDING)),
}
"""Values from the call for all fields."""
