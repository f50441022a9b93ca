"""Changes of a scripted GPU: new values of readings and checkup, and the values after a reset. Pure.

Place in the chain: `scripted_node.py` applies them to the state file.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

import msgspec

from gpuvitals.model.signal import Checkup
from gpuvitals_sim.hardware.state_file import HEALTHY_CHECKUP, GpuScript, Readings, StateError, all_active

CHECKED = frozenset(field.name for field in fields(Checkup)) - {
    "source",
    "seen",
    "uuid",
    "unsupported",
    "detail",
}
READINGS = frozenset(Readings.__struct_fields__) | CHECKED | {"links_down"}
"""The names that `set` accepts: values of a poll and of a checkup, and `links_down`, a number of links to take down."""


def with_values(script: GpuScript, values: Mapping[str, object]) -> GpuScript:
    """The GPU with new values of readings and checkup, by the names of READINGS. Raises StateError."""
    polled = {name: value for name, value in values.items() if name not in CHECKED}
    checked = {name: value for name, value in values.items() if name in CHECKED}
    return changed_gpu(
        script,
        readings=_with_readings(script.readings, polled),
        checkup=_validated(script.checkup, checked, Checkup),
    )


def changed_gpu(script: GpuScript, **changes: object) -> GpuScript:
    """The GPU with other fields. Raises StateError with the field."""
    return _validated(script, changes, GpuScript)


def _with_readings(readings: Readings, changes: Mapping[str, object]) -> Readings:
    wanted = dict(changes)
    down = wanted.pop("links_down", None)
    if down is not None:
        total = len(readings.links or ())
        if not isinstance(down, int) or not 0 <= down <= total:
            raise StateError(f"links_down {down!r} is not a number from 0 to {total}, the GPU's links")
        wanted["links"] = ("inactive",) * down + ("active",) * (total - down)
    return _validated(readings, wanted, Readings)


def repaired(script: GpuScript) -> dict[str, object]:
    """The fields of the GPU after a reset that repairs it."""
    return {
        "error": 0,
        "enumerated": True,
        "hang_until": 0.0,
        "readings": _repaired_readings(script.readings),
        "checkup": _repaired_checkup(script.checkup),
    }


def _repaired_checkup(checkup: Checkup) -> Checkup:
    """The checkup after a reset: counters of links and lanes are zero, nothing is pending."""
    fresh = {name: getattr(HEALTHY_CHECKUP, name) for name in CHECKED if name not in checkup.unsupported}
    kept = {name: getattr(checkup, name) for name in ("retired_pages", "memory_unrepairable", "processes")}
    return replace(checkup, **fresh | kept)


def _repaired_readings(readings: Readings) -> Readings:
    links = all_active(len(readings.links or ()))
    fabric = "completed" if readings.fabric in ("degraded", "failed") else readings.fabric
    repaired = Readings(
        ecc_uncorrected_aggregate=readings.ecc_uncorrected_aggregate,
        remap_failed=readings.remap_failed,
        remapped_uncorrectable=readings.remapped_uncorrectable,
        banks_without_spare=readings.banks_without_spare,
        links=links,
        fabric=fabric,
        thermal_margin_celsius=readings.thermal_margin_celsius,
        unsupported=readings.unsupported,
    )
    lacking: dict[str, object] = dict.fromkeys(readings.unsupported)
    return msgspec.structs.replace(repaired, **lacking)


S = TypeVar("S", GpuScript, Readings, Checkup)


def _validated(script: S, changes: Mapping[str, object], kind: type[S]) -> S:
    """The script with changes, checked as a file would be. Raises StateError with the field."""
    try:
        return msgspec.convert(msgspec.to_builtins(script) | msgspec.to_builtins(dict(changes)), kind)
    except ValueError as error:
        raise StateError(f"scripted gpu: {error}") from error
