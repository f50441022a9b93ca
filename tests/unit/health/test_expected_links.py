"""Expected NVLinks: the table of models takes precedence over learned values."""

from dataclasses import replace

import pytest

from gpuvitals.health.expected_links import expected_links, lacking_values
from gpuvitals.health.state import initial_state, with_expected_values
from gpuvitals.model.health import HealthState, NvlinkStatus
from gpuvitals.model.signal import Reading
from support.signals import GPU, fold, good, judge, links, moment

H100 = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("model", "most", "expected"),
    [
        (H100, 17, 18),
        (H100, 18, 18),
        (H100, 0, 0),
        (H100, None, None),
        ("NVIDIA A100-SXM4-80GB", 12, 12),
        ("NVIDIA A100 80GB PCIe", 12, 12),
        ("NVIDIA A100 80GB PCIe", 0, 0),
        ("Tesla T4", 0, 0),
        ("a model of tomorrow", 36, 36),
        ("a model of tomorrow", None, None),
    ],
    ids=str,
)
def test_the_table_wins_over_what_was_learned(model: str, most: int | None, expected: int | None) -> None:
    assert expected_links(model, most) == expected


def test_a_link_that_never_worked_is_missed_on_a_model_of_the_table() -> None:
    met = initial_state(replace(GPU, expected_links=17), moment(1000))
    other = initial_state(replace(GPU, expected_links=17, product_name="a model of tomorrow"), moment(1000))
    short = [good(1000 + 10 * step, links=links(17)) for step in range(4)]

    assert judge(fold(*short, state=met), 1030).reason == "NvlinkDegraded"
    assert judge(fold(*short, state=other), 1030).state is HealthState.HEALTHY


def test_a_single_gpu_of_a_board_in_a_virtual_machine_misses_no_link() -> None:
    met = initial_state(replace(GPU, expected_links=0), moment(1000))
    verdict = judge(fold(*(good(1000 + 100 * step, links=links(0)) for step in range(9)), state=met), 1800)

    assert (verdict.state, verdict.nvlink_status) == (HealthState.HEALTHY, NvlinkStatus.NONE)


def test_links_that_come_up_later_are_learned_and_kept_without_an_inventory_value() -> None:
    met = initial_state(replace(GPU, product_name="a model of tomorrow", expected_links=None), moment(1000))
    learned = fold(good(1000, links=links(4)), good(1005, links=links(16)), state=met)
    again = with_expected_values(
        learned, replace(GPU, product_name="a model of tomorrow", expected_links=None)
    )

    assert (met.expected_links, learned.expected_links, again.expected_links) == (None, 16, 16)


REMAPPING = {"remap_pending": None, "remap_failed": None}
BEFORE_HOPPER: dict[str, object] = {"fabric": None}
BEFORE_AMPERE: dict[str, object] = {**BEFORE_HOPPER, **REMAPPING, "sram_threshold_exceeded": None}


def read_as(architecture: str, missing: dict[str, object]) -> tuple[Reading, int]:
    met = initial_state(replace(GPU, architecture=architecture, product_name="a model"), moment(1000))
    reading = good(1000, unsupported=frozenset(missing), **missing)
    return reading, judge(fold(reading, state=met), 1000).coverage


@pytest.mark.parametrize(
    ("architecture", "missing", "coverage"),
    [
        pytest.param("Ampere", BEFORE_HOPPER, 100, id="an A100"),
        pytest.param("Ada Lovelace", BEFORE_HOPPER, 100, id="an L40S"),
        pytest.param("Turing", BEFORE_AMPERE, 100, id="a T4"),
        pytest.param("Volta", BEFORE_AMPERE, 100, id="a V100"),
        pytest.param("Hopper", {}, 100, id="an H100"),
        pytest.param("Hopper", BEFORE_HOPPER, 90, id="an H100 without its fabric"),
        pytest.param("Ampere", {**BEFORE_HOPPER, **REMAPPING}, 77, id="an A100 that hides its rows"),
        pytest.param("Turing", {**BEFORE_AMPERE, "recovery_action": None}, 83, id="a T4 with an old driver"),
        pytest.param("", BEFORE_HOPPER, 90, id="an architecture that was not read"),
        pytest.param("Rubin Next", BEFORE_HOPPER, 90, id="an architecture of tomorrow"),
        pytest.param("Ampere", {}, 100, id="more than was expected"),
    ],
)
def test_a_signal_that_the_model_lacks_does_not_lower_coverage(
    architecture: str, missing: dict[str, object], coverage: int
) -> None:
    """Finding N7: values that NVIDIA documents for later architectures are not expected; all others are."""
    assert read_as(architecture, missing)[1] == coverage


def test_what_is_expected_follows_a_board_that_is_identified_anew() -> None:
    """Finding N7: an architecture that could not be read at first is taken up later."""
    met = initial_state(replace(GPU, architecture=""), moment(1000))
    known = with_expected_values(met, replace(GPU, architecture="Turing"))

    assert (met.unsupported_values, known.unsupported_values) == (frozenset(), lacking_values("Turing"))
