"""Every threshold of the fold, with its unit, its default, why it is what it is, and where it comes from."""

from dataclasses import asdict, dataclass, fields, replace

from gpuvitals.health.policy_pairs import contradiction


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """The documentation of one field of Policy."""

    name: str
    unit: str
    default: int
    minimum: int
    why: str
    source: str


MAX_VALUE = 2**31 - 1
"""Of every value, as the API server has it."""

_OURS = "gpuvitals"
VALUES = (
    PolicyValue(
        name="dwell_seconds",
        unit="s",
        default=300,
        minimum=0,
        why="a class B fault must last this long before it isolates: links retrain and calls recover in minutes",
        source="the field's practice: AWS repairs after 10 min, ByteRobust waits for 2 alerts in 5 min (arXiv 2509.16293)",
    ),
    PolicyValue(
        name="dwell_episodes",
        unit="episodes",
        default=2,
        minimum=2,
        why="or it must come back this often within dwell_seconds",
        source="ByteRobust, arXiv 2509.16293",
    ),
    PolicyValue(
        name="repeat_reports",
        unit="reports",
        default=3,
        minimum=2,
        why="or it must be reported this often within xid_count_seconds, however far apart",
        source='NVIDIA, "Analyzing Xid Errors with the Xid Catalog": report XID 74 seen more than twice on a link',
    ),
    PolicyValue(
        name="level_confirm_seconds",
        unit="s",
        default=15,
        minimum=0,
        why="a degrading level must be read bad for this long: one bad poll is not a fault",
        source=_OURS,
    ),
    PolicyValue(
        name="level_clear_seconds",
        unit="s",
        default=60,
        minimum=0,
        why="a level must be read good for this long before its fault is gone, so that flapping is one fault",
        source=_OURS,
    ),
    PolicyValue(
        name="burst_silence_seconds",
        unit="s",
        default=180,
        minimum=0,
        why="XIDs of one code and unit are one episode until this much silence",
        source="NVIDIA Fleet Intelligence groups XIDs by 3 min of silence",
    ),
    PolicyValue(
        name="same_report_seconds",
        unit="s",
        default=5,
        minimum=0,
        why="an NVML XID event this close to the kernel's line of the same code is the same report",
        source=_OURS,
    ),
    PolicyValue(
        name="dcgm_report_seconds",
        unit="s",
        default=90,
        minimum=0,
        why="an XID that the DCGM exporter shows this soon after the same code was heard is the same report",
        source="NVIDIA/dcgm-exporter collects every 30 s; it is looked at every 15 s",
    ),
    PolicyValue(
        name="dcgm_stale_seconds",
        unit="s",
        default=120,
        minimum=60,
        why="what the DCGM exporter showed longer ago than this is no evidence",
        source="NVIDIA/dcgm-exporter collects every 30 s",
    ),
    PolicyValue(
        name="dcgm_expected",
        unit="0 or 1",
        default=0,
        minimum=0,
        why="1 counts the DCGM exporter among the signals of health/coverage; set where its address is configured",
        source=_OURS,
    ),
    PolicyValue(
        name="blind_seconds",
        unit="s",
        default=60,
        minimum=15,
        why="without a good reading for this long the state is Unknown",
        source=_OURS,
    ),
    PolicyValue(
        name="isolation_cap_percent",
        unit="% of a node's GPUs",
        default=50,
        minimum=0,
        why="more suspects than this, but one, are a fault of the node, not of its GPUs; definitive evidence is not capped",
        source="NVSentinel trips its breaker at 50 %",
    ),
    PolicyValue(
        name="probation_seconds",
        unit="s",
        default=600,
        minimum=0,
        why="a repaired GPU is watched this long: GPUs that pass when idle fail again under load",
        source="NVIDIA/NVSentinel#695",
    ),
    PolicyValue(
        name="probation_doublings",
        unit="relapses",
        default=6,
        minimum=0,
        why="each relapse doubles the probation, up to this often",
        source=_OURS,
    ),
    PolicyValue(
        name="relapse_seconds",
        unit="s",
        default=86_400,
        minimum=0,
        why="a fault this soon after a repair is a relapse",
        source=_OURS,
    ),
    PolicyValue(
        name="flap_repairs",
        unit="repairs",
        default=3,
        minimum=2,
        why="a GPU that was repaired this often within flap_window_seconds stays out: the next repair would not hold either",
        source=_OURS,
    ),
    PolicyValue(
        name="flap_window_seconds",
        unit="s",
        default=86_400,
        minimum=1,
        why="window of flap_repairs",
        source=_OURS,
    ),
    PolicyValue(
        name="flap_quiet_seconds",
        unit="s",
        default=21_600,
        minimum=1,
        why="or until it was watched for so long without failing; an operator ends it at once",
        source=_OURS,
    ),
    PolicyValue(
        name="xid_count_seconds",
        unit="s",
        default=86_400,
        minimum=1,
        why="window of health/xidErrors, and how long an event fault that needs no reset degrades",
        source=_OURS,
    ),
    PolicyValue(
        name="xid_memory_seconds",
        unit="s",
        default=259_200,
        minimum=1,
        why="window in which an unresolved XID lowers the score",
        source="leptonai/gpud keeps 3 days",
    ),
    PolicyValue(
        name="xid_half_life_seconds",
        unit="s",
        default=86_400,
        minimum=1,
        why="the weight of an unresolved XID halves in this time",
        source=_OURS,
    ),
    PolicyValue(
        name="thermal_start_celsius",
        unit="degrees C of margin",
        default=5,
        minimum=1,
        why="below this distance to the slowdown point heat begins to count",
        source="NVIDIA/NVSentinel ADR-042",
    ),
    PolicyValue(
        name="thermal_window_seconds",
        unit="s",
        default=300,
        minimum=1,
        why="the margin is smoothed over this window: hot under load is normal",
        source=_OURS,
    ),
    PolicyValue(
        name="thermal_hysteresis_celsius",
        unit="degrees C of margin",
        default=2,
        minimum=0,
        why="so much cooler than a threshold it must be before heat counts less again: wobble is no news",
        source=_OURS,
    ),
    PolicyValue(
        name="row_remap_memory_seconds",
        unit="s",
        default=604_800,
        minimum=0,
        why="for so long a row that was remapped after an uncorrectable error lowers the score",
        source=_OURS,
    ),
    PolicyValue(
        name="link_crc_per_second",
        unit="errors per s",
        default=100,
        minimum=1,
        why="NVLink CRC errors beyond this rate degrade; a few are corrected by a replay that nobody notices",
        source="NVIDIA/DCGM v4.6.0 DcgmHealthWatch.cpp fails at 100 per s",
    ),
    PolicyValue(
        name="link_errors_per_petabit",
        unit="errors per 10^15 bits",
        default=1000,
        minimum=1,
        why="a bit error rate after correction of 1e-12 or worse degrades (NVLink 5)",
        source="NVIDIA/DCGM v4.6.0 DcgmHealthWatch.cpp fails at about 1e-12",
    ),
    PolicyValue(
        name="pcie_replays_per_lane_hundredths",
        unit="0.01 replays per lane and min",
        default=48,
        minimum=1,
        why="at generation 3, doubled with each generation: 8, 16, 31 and 62 per minute for 16 lanes",
        source="NVIDIA/DCGM v4.6.0 DcgmHealthWatch.cpp warns at 0.48, 0.96, 1.92 and 3.84 per lane and minute",
    ),
    PolicyValue(
        name="retired_pages_limit",
        unit="pages",
        default=63,
        minimum=1,
        why="so many retired pages degrade: a GPU before Ampere has 64",
        source="NVIDIA/DCGM v4.6.0 fails at 63",
    ),
    PolicyValue(
        name="isolate_unknown",
        unit="0 or 1",
        default=0,
        minimum=0,
        why="1 takes a GPU that nobody sees out of service as well, up to the isolation cap; blindness is no evidence",
        source="docs/adr/002-unknown-is-a-state.md",
    ),
    PolicyValue(
        name="publish_step",
        unit="points",
        default=5,
        minimum=1,
        why="a smaller move of the score alone is not worth waking every scheduler",
        source="KEP-4381, scalability: each slice update retries pending pods",
    ),
    PolicyValue(
        name="publish_interval_seconds",
        unit="s",
        default=30,
        minimum=0,
        why="moves of the score alone, and of the words for links and memory, are written at most this often",
        source=_OURS,
    ),
    PolicyValue(
        name="decay_interval_seconds",
        unit="s",
        default=3600,
        minimum=0,
        why="a score that heals by ageing alone is written at most this often",
        source=_OURS,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The values in force. Units, reasons and sources are in VALUES, one entry a field."""

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

    Raises ValueError naming the field where it is unknown, not a whole number, or below its minimum, and naming both
    where two contradict each other.
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
            raise ValueError(f"policy value {name!r}: unknown; the known ones are {', '.join(sorted(known))}")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"policy value {name}: {value!r} is not a whole number")
        if value < known[name].minimum:
            raise ValueError(f"policy value {name}: {value} is below its minimum {known[name].minimum}")
        if value > MAX_VALUE:
            raise ValueError(f"policy value {name}: {value} is above the maximum {MAX_VALUE}")


def undocumented() -> set[str]:
    """Fields of Policy that VALUES does not document with the same default; a test keeps it empty."""
    documented = {value.name: value.default for value in VALUES}
    return {field.name for field in fields(Policy) if documented.get(field.name) != field.default}
