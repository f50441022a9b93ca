"""What a comparison says: percentiles, paired ratios, noise, and whether a target held."""

from dataclasses import replace

import pytest
from benchmarks.harness.figures import Figure, Outcome, Target, is_failure
from benchmarks.harness.lab import requests_from, tainted, watches_from, writes_from
from benchmarks.harness.machine import Machine
from benchmarks.harness.page import number, page, table
from benchmarks.harness.stats import paired_ratio, percentile, spread


def figure(ours: list[float], peer: list[float], *targets: Target) -> Figure:
    return Figure(benchmark="B1", name="a fault", unit="ms", ours=ours, peer=peer, targets=targets)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_ratio_is_taken_round_by_round() -> None:
    """The second round was slow for both: that is the machine's doing."""
    assert paired_ratio([12.0, 120.0, 11.0], [10.0, 100.0, 10.0]) == pytest.approx(1.2)


@pytest.mark.parametrize("peer", [[], [0.0]], ids=["no-peer", "peer-of-zero"])
def test_without_something_to_divide_by_there_is_no_ratio(peer: list[float]) -> None:
    assert paired_ratio([1.0], peer) is None


def test_noise_is_how_far_the_rounds_lie_apart() -> None:
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert spread([0.0, 0.0]) == 0.0


@pytest.mark.parametrize(
    ("ours", "outcome"),
    [
        pytest.param([11.6, 14.2], Outcome.HELD, id="below-the-target"),
        pytest.param([12.6, 15.4], Outcome.UNCLEAR, id="within-the-noise"),
        pytest.param([15.3, 18.7], Outcome.MISSED, id="beyond-the-noise"),
    ],
)
def test_a_ratio_is_missed_only_beyond_the_noise(ours: list[float], outcome: Outcome) -> None:
    measured = figure(ours, [9.0, 11.0], Target(ratio=1.3))
    assert measured.outcome(measured.targets[0]) is outcome
    assert is_failure([measured]) == (outcome is Outcome.MISSED)


def test_an_absolute_limit_is_reported_and_fails_nothing() -> None:
    measured = figure([30.0], [], Target(limit=25.0))
    assert measured.outcome(measured.targets[0]) is Outcome.MISSED
    assert not is_failure([measured])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (8.0, "8"), (0.6, "0.60"), (8.25, "8.25"), (12.34, "12.3"), (30021.4, "30021")],
)
def test_numbers_have_the_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_page_has_the_machine_the_method_and_the_figures() -> None:
    machine = Machine(facts=(("cores", "2"),), date="today", load="load 0.1", was_busy=True)
    text = page(
        [figure([12.0], [10.0], Target(ratio=1.3))], {"B1": "B1: faults.\n\nHow it is done."}, machine
    )

    assert "| cores | 2 |" in text
    assert (
        "## B1: faults.\n\nHow it is done.\n\nMeasured today in 1 round; load 0.1; **the machine was busy"
        in text
    )
    assert "| a fault | ms | 12 | 10 | 1.20 | 0% | <= 1.3x | held |" in text


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param([12.0], "in 1 round; load", id="counted-once"),
        pytest.param([12.0, 13.0], "in 2 rounds, both sides in turn; load", id="each-round"),
    ],
)
def test_a_section_names_the_rounds_that_its_figures_have(values: list[float], told: str) -> None:
    """B15 counts requests once, however many rounds the run has."""
    machine = Machine(facts=(), date="today", load="load 0.1", was_busy=False)
    assert told in page([figure(values, values)], {"B1": "B1: faults."}, machine)


def test_what_a_run_did_not_measure_stays_on_the_page() -> None:
    about = {"B1": "B1: faults.", "B2": "B2: writes.", "B3": "B3: noise."}
    first = Machine(facts=(), date="first", load="load 0.1", was_busy=False)
    second = replace(first, date="later")
    one = figure([12.0], [10.0])
    whole = page([one, replace(one, benchmark="B2")], about, first)
    text = page([replace(one, benchmark="B2"), replace(one, benchmark="B3")], about, second, whole)

    titles = [line for line in text.splitlines() if line.startswith("## B")]
    assert titles == ["## B1: faults.", "## B2: writes.", "## B3: noise."]
    assert (text.count("Measured first "), text.count("Measured later ")) == (1, 2)
    assert page([one], about, first, page([one], about, first)) == page([one], about, first)


def test_the_table_names_the_benchmark() -> None:
    assert table([figure([12.0], [10.0])]).splitlines()[1].split()[:3] == ["B1", "a", "fault"]


def test_writes_are_those_that_the_server_counted_without_dry_runs() -> None:
    metrics = "\n".join(
        f'apiserver_request_total{{code="200",dry_run="{dry}",resource="{kind}",subresource="{sub}",verb="{verb}"}} {count}'
        for dry, kind, sub, verb, count in (
            ("", "resourceslices", "", "PUT", 3),
            ("", "resourceslices", "", "DELETE", 1),
            ("All", "resourceslices", "", "POST", 5),
            ("", "resourceslices", "", "WATCH", 7),
            ("", "resourceclaims", "status", "APPLY", 2),
        )
    )
    assert writes_from(metrics) == {"resourceslices": 4, "resourceclaims/status": 2}


def test_a_taint_without_effect_takes_nothing_out_of_service() -> None:
    devices = [
        {"name": "well"},
        {"name": "told", "taints": [{"effect": "None"}]},
        {"name": "out", "taints": [{"effect": "None"}, {"effect": "NoSchedule"}]},
    ]
    assert tainted({"spec": {"devices": devices}}) == {"out"}


def test_requests_are_counted_by_verb_and_resource_and_watches_while_they_are_open() -> None:
    metrics = "\n".join(
        [
            'apiserver_request_total{code="200",dry_run="",resource="nodes",subresource="",verb="GET"} 3',
            'apiserver_request_total{code="404",dry_run="",resource="nodes",subresource="",verb="GET"} 1',
            'apiserver_request_total{code="200",dry_run="",resource="pods",subresource="",verb="GET"} 9',
            'apiserver_request_total{code="201",dry_run="All",resource="nodes",subresource="",verb="POST"} 5',
            'apiserver_longrunning_requests{resource="nodes",scope="cluster",verb="WATCH"} 2',
            'apiserver_longrunning_requests{resource="pods",scope="cluster",verb="WATCH"} 7',
        ]
    )

    assert requests_from(metrics, {"nodes"}) == {("GET", "nodes"): 4}
    assert watches_from(metrics, {"nodes", "resourceslices"}) == 2
