"""Links in a state that has no name here: no evidence of a fault, and none of health."""

import pytest

from gpuvitals.model.health import HealthState, NvlinkStatus
from gpuvitals.model.signal import LinkState
from support.signals import fold, good, judge

UP, DOWN, ODD = LinkState.ACTIVE, LinkState.INACTIVE, LinkState.UNKNOWN


def shown(*states: LinkState) -> tuple[LinkState, ...]:
    """These links, and the rest of 18 active."""
    return (*states, *(UP,) * (18 - len(states)))


@pytest.mark.parametrize("unknown", [1, 9, 18])
def test_unknown_links_lower_coverage_and_are_no_fault(unknown: int) -> None:
    """Finding N5."""
    readings = [good(1000 + 20 * step, links=shown(*(ODD,) * unknown)) for step in range(6)]
    verdict = judge(fold(good(990), *readings), 1100)

    assert (verdict.state, verdict.score, verdict.coverage) == (HealthState.HEALTHY, 100, 90)
    assert (verdict.nvlink_status, verdict.nvlink_bandwidth_percent) == (NvlinkStatus.UNKNOWN, 0)


def test_links_that_are_down_show_beside_unknown_ones() -> None:
    """Finding N5: links that are known to be down count."""
    readings = [good(1000 + 10 * step, links=shown(DOWN, DOWN, ODD)) for step in range(5)]
    verdict = judge(fold(*readings), 1040)

    assert verdict.reason == "NvlinkDegraded"
    assert "2 of 18" in verdict.message
    assert verdict.coverage == 90


def test_unknown_links_heal_nothing() -> None:
    """Finding N5: a link that was down and whose state has no name now is still held against the GPU."""
    down = [good(1000 + 10 * step, links=shown(DOWN, DOWN)) for step in range(5)]
    unknown = [good(1050 + 10 * step, links=shown(ODD, ODD)) for step in range(60)]
    verdict = judge(fold(*down, *unknown), 1640)
    well = [good(1650 + 10 * step) for step in range(60)]

    assert (verdict.reason, verdict.score < 100) == ("NvlinkDegraded", True)
    assert judge(fold(*down, *unknown, *well), 2240).state is HealthState.HEALTHY


def test_unknown_links_teach_no_number_of_links() -> None:
    """Finding N5: a link is expected once it was seen to work."""
    state = fold(good(1000, links=(UP,) * 4 + (ODD,) * 30))

    assert state.expected_links == 18
