"""Parses what the DCGM exporter answers into what it says of each GPU. Pure.

    DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-604a...",pci_bus_id="00000000:01:00.0",device="nvidia0",...} 79
Source: NVIDIA/dcgm-exporter etc/default-counters.csv and README (names, labels, blank values); NVIDIA/DCGM
dcgm_fields.h (event reasons).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from gpuvitals.model.ids import GpuUuid

_PREFIX = "DCGM_FI_"
_BLANK = 0x7FFF_FFF0
"""From here on a value means "none", "not found", "not supported" or "no permission". Source: NVIDIA/DCGM dcgm_structs.h."""
_MAX_GPUS = 64
_HARDWARE_SLOWDOWN = 0x8 | 0x40 | 0x80
"""Event reasons: hardware slowdown, hardware thermal slowdown, power brake. Source: nvml.h, nvmlClocksEventReason*."""

XID = "DCGM_FI_DEV_XID_ERRORS"
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
THERMAL = "DCGM_FI_DEV_THERMAL_VIOLATION"
LINK_ERRORS = (
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
)
UNCORRECTED = "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"
UNCORRECTED_EVER = "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL"
CORRECTED = "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL"
REMAPPED = "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"
REMAP_PENDING = "DCGM_FI_DEV_ROW_REMAP_PENDING"
REMAP_FAILED = "DCGM_FI_DEV_ROW_REMAP_FAILURE"
_REASONS = ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")
_COUNTS = (UNCORRECTED, UNCORRECTED_EVER, CORRECTED, REMAPPED, REMAP_PENDING, REMAP_FAILED)
_WANTED = frozenset({XID, ENERGY, THERMAL, *LINK_ERRORS, *_COUNTS, *_REASONS})


class DcgmTextError(Exception):
    """The answer is none of a DCGM exporter. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DcgmGpu:
    """The values of one GPU by metric name: blank ones are missing, of several MIG instances' the greatest counts.

    `told_at` is the exporter's own time in seconds since the epoch, None where it gives none, which is usual.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    told_at: float | None = None

    def count(self, metric: str) -> int | None:
        """A counter; None where it is blank or not shown."""
        value = self.values.get(metric)
        return None if value is None else int(value)

    def flag(self, metric: str) -> bool | None:
        """A flag; None where it is blank or not shown."""
        value = self.values.get(metric)
        return None if value is None else value != 0

    def slows_down(self) -> bool | None:
        """Whether the hardware slows itself down now; None where the exporter does not show event reasons."""
        shown = [int(self.values[metric]) for metric in _REASONS if metric in self.values]
        return bool(shown[0] & _HARDWARE_SLOWDOWN) if shown else None


def dcgm_gpus(text: str) -> dict[GpuUuid, DcgmGpu]:
    """What the answer says of each GPU. Raises DcgmTextError."""
    found: dict[GpuUuid, dict[str, float]] = {}
    told: dict[GpuUuid, float] = {}
    seen = False
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # The parser adds the suffix to the samples of a counter that was written without it.
                name = sample.name.removesuffix("_total")
                seen = seen or name.startswith(_PREFIX)
                uuid = GpuUuid(sample.labels.get("UUID", ""))
                if name not in _WANTED or not uuid.startswith("GPU-"):
                    continue
                values = found.setdefault(uuid, {})
                if _is_value(sample.value):
                    values[name] = max(sample.value, values.get(name, sample.value))
                if sample.timestamp is not None:
                    told[uuid] = min(float(sample.timestamp), told.get(uuid, math.inf))
    except (ValueError, KeyError, IndexError) as error:
        raise DcgmTextError(f"not the text format of Prometheus: {str(error)[:200]}") from error
    if not seen:
        raise DcgmTextError(f"no metric that begins with {_PREFIX}; is this the DCGM exporter?")
    if len(found) > _MAX_GPUS:
        raise DcgmTextError(f"{len(found)} GPUs, more than {_MAX_GPUS}")
    return {uuid: DcgmGpu(values=values, told_at=told.get(uuid)) for uuid, values in found.items()}


def _is_value(value: float) -> bool:
    """Energy in mJ and violations in us pass the 32-bit blanks within days, so those count as blank by their bits only."""
    if math.isnan(value) or value < 0:
        return False
    return not (
        _BLANK <= value <= 0x7FFF_FFFF or value >= 0x7FFF_FFFF_FFFF_F000 or value == 140_737_488_355_328.0
    )
