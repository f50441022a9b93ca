"""Parses the metrics of the DCGM exporter into values per GPU. Pure.

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
"""Values from here on mean "blank", "not found", "not supported" or "no permission". Source: NVIDIA/DCGM dcgm_structs.h."""
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
    """Text that is not the output of a DCGM exporter. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DcgmGpu:
    """The values of one GPU by metric name. Blank values are missing; of several MIG instances the largest value is kept.

    `timestamp_seconds` is the exporter's timestamp, in seconds since the epoch. Most exporters give none: then None.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    timestamp_seconds: float | None = None

    def count(self, metric: str) -> int | None:
        """A counter; None if it is blank or missing."""
        value = self.values.get(metric)
        return None if value is None else int(value)

    def flag(self, metric: str) -> bool | None:
        """A flag; None if it is blank or missing."""
        value = self.values.get(metric)
        return None if value is None else value != 0

    def hardware_slowdown(self) -> bool | None:
        """Whether a hardware slowdown is active now; None if the exporter has no event reasons."""
        shown = [int(self.values[metric]) for metric in _REASONS if metric in self.values]
        return bool(shown[0] & _HARDWARE_SLOWDOWN) if shown else None


def dcgm_gpus(text: str) -> dict[GpuUuid, DcgmGpu]:
    """The values of each GPU in the exporter's output. Raises DcgmTextError."""
    found: dict[GpuUuid, dict[str, float]] = {}
    timestamps: dict[GpuUuid, float] = {}
    is_dcgm = False
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # The parser appends `_total` to the samples of counters that were written without it.
                name = sample.name.removesuffix("_total")
                is_dcgm = is_dcgm or name.startswith(_PREFIX)
                uuid = GpuUuid(sample.labels.get("UUID", ""))
                if name not in _WANTED or not uuid.startswith("GPU-"):
                    continue
                values = found.setdefault(uuid, {})
                if _is_value(sample.value):
                    values[name] = max(sample.value, values.get(name, sample.value))
                if sample.timestamp is not None:
                    timestamps[uuid] = min(float(sample.timestamp), timestamps.get(uuid, math.inf))
    except (ValueError, KeyError, IndexError) as error:
        raise DcgmTextError(f"not the text format of Prometheus: {str(error)[:200]}") from error
    if not is_dcgm:
        raise DcgmTextError(f"no metric that begins with {_PREFIX}; is this the DCGM exporter?")
    if len(found) > _MAX_GPUS:
        raise DcgmTextError(f"{len(found)} GPUs, more than {_MAX_GPUS}")
    return {
        uuid: DcgmGpu(values=values, timestamp_seconds=timestamps.get(uuid)) for uuid, values in found.items()
    }


def _is_value(value: float) -> bool:
    """Whether the value is not blank.

    Energy in mJ and violations in us exceed the 32-bit blanks within days, so only the exact ranges of blanks count.
    """
    if math.isnan(value) or value < 0:
        return False
    return not (
        _BLANK <= value <= 0x7FFF_FFFF or value >= 0x7FFF_FFFF_FFFF_F000 or value == 140_737_488_355_328.0
    )
