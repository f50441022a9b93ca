"""What a model should have: the table wins over what was learned, and neither invents a link."""

from dataclasses import replace

import pytest

from gpuvitals.health.expectations import expected_links
from gpuvitals.health.state import expecting, initial_state
from gpuvitals.model.health import HealthState, NvlinkStatus
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


def test_links_that_come_up_later_are_learned_and_kept_where_an_inventory_does_not_say() -> None:
    met = initial_state(replace(GPU, product_name="a model of tomorrow", expected_links=None), moment(1000))
    learned = fold(good(1000, links=links(4)), good(1005, links=links(16)), state=met)
    again = expecting(learned, replace(GPU, product_name="a model of tomorrow", expected_links=None))

    assert (met.expected_links, learned.expected_links, again.expected_links) == (None, 16, 16)
