"""The policy of the fold: its values, and checked changes to them. `policy_values` documents each value."""

from dataclasses import asdict, dataclass, fields, replace

from gpuvitals.health.policy_pairs import contradiction
from gpuvitals.health.policy_values import MAX_VALUE, VALUES

_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The values in force. VALUES has the unit, the reason and the source of each field."""

    dwell_seconds: int = 300
    dwell_episodes: int = 2
    repeat_reports: int = 3
    level_confirm_seconds: int = 15
    level_clear_seconds: int = 60
    burst_silence_seconds: int = 180
    same_report_seconds: int = 5
    dcgm_report_seconds: int = 90
    dcgm_stale_seconds: int = 120
    dcgm_expected: int = 0
    blind_seconds: int = 60
    isolation_cap_percent: int = 50
    probation_seconds: int = 600
    probation_doublings: int = 6
    relapse_seconds: int = 86_400
    flap_repairs: int = 3
    flap_window_seconds: int = 86_400
    flap_quiet_seconds: int = 21_600
    xid_count_seconds: int = 86_400
    xid_memory_seconds: int = 259_200
    xid_half_life_seconds: int = 86_400
    thermal_start_celsius: int = 5
    thermal_window_seconds: int = 300
    thermal_hysteresis_celsius: int = 2
    row_remap_memory_seconds: int = 604_800
    link_crc_per_second: int = 100
    link_errors_per_petabit: int = 1000
    pcie_replays_per_lane_hundredths: int = 48
    retired_pages_limit: int = 63
    isolate_unknown: int = 0
    publish_step: int = 5
    publish_interval_seconds: int = 30
    decay_interval_seconds: int = 3600


def policy_with(values: dict[str, int], base: Policy | None = None) -> Policy:
    """`base` (or the defaults) with some values changed.

    Raises ValueError that names a field that is unknown, not a whole number or out of range, or two fields that
    contradict each other.
    """
    check_values(values)
    changed = replace(base or Policy(), **values)
    found = contradiction(asdict(changed))
    if found:
        raise ValueError(found)
    return changed


def check_values(values: dict[str, int]) -> None:
    """Checks each value alone. Raises ValueError naming the field."""
    known = {value.name: value for value in VALUES}
    for name, value in values.items():
        if name not in known:
            raise ValueError(
                f"policy value {_shown(name)}: unknown; the known ones are {', '.join(sorted(known))}"
            )
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"policy value {name}: {_shown(value)} is not a whole number")
        if value < known[name].minimum:
            raise ValueError(f"policy value {name}: {value} is below its minimum {known[name].minimum}")
        if value > MAX_VALUE:
            raise ValueError(f"policy value {name}: {value} is above the maximum {MAX_VALUE}")


def _shown(value: object) -> str:
    """The value as it was written, shortened for use in an event or a log line."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def undocumented() -> set[str]:
    """Fields of Policy that VALUES does not document with the same default; a test keeps it empty."""
    documented = {value.name: value.default for value in VALUES}
    return {field.name for field in fields(Policy) if documented.get(field.name) != field.default}
