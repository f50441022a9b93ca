"""The explanation of a live GPU: the text of each station, for every state of a GPU."""

from dataclasses import replace

import pytest

from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.ids import ClaimUid
from gpuvitals.model.signal import Checkup, ClearReport, MonitorState, ReadStatus, Source
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.explain import ExplainContext, find_gpu, gpu_stations
from gpuvitals.node.state_store import GpuRecord
from support.signals import UUID, asks, broken, checkup, fold, good, judge, links, moment, xid
from support.worlds.snapshots import SINCE, gpu

AT = 1100.0


def stored(state: GpuState, *, isolated: bool = False) -> GpuRecord:
    """That state on GPU 3, shown to the cluster as it is."""
    return GpuRecord(
        gpu=gpu(3),
        state=state,
        published=judge(state, AT),
        published_at=AT,
        state_since=SINCE,
        isolated=isolated,
    )


def told(entry: GpuRecord, *holders: str) -> dict[str, str]:
    around = ExplainContext(
        now=moment(AT),
        policy=EffectivePolicy(health=Policy()),
        naming=Naming(),
        facts=NodeFacts(monitors=((Source.KMSG, MonitorState.WATCHING),)),
        holders=tuple(ClaimRef(namespace="ml", name=name, uid=ClaimUid(name)) for name in holders),
    )
    return {station.name: station.text for station in gpu_stations(entry, around)}


def test_a_healthy_gpu_has_no_fault_and_can_be_allocated() -> None:
    stations = told(stored(fold(good(AT - 5))))

    assert stations["faults"] == "none is open"
    assert stations["verdict"].startswith("Healthy, score 100")
    assert stations["service"] == "in: it can be allocated"
    assert stations["careful claims"] == "score > 90 matches"
    assert stations["sources"] == "kmsg watching"


def test_the_last_checkup_says_what_it_read_and_leaves_out_what_it_did_not() -> None:
    worn = checkup(AT - 30, pcie_lanes=8, link_replays=7, retired_pages=None, power_milliwatts=None)
    stations = told(stored(fold(good(AT - 5), worn)))
    nothing = told(stored(fold(Checkup(source=Source.NVML_POLL, seen=moment(AT), uuid=UUID))))

    assert stations["checkup"] == (
        "30 s ago: 8 of 16 PCIe lanes, 5 of 5 as PCIe generation, 0 PCIe replays, 7 NVLink replays, "
        "0 NVLink CRC errors, 1 processes"
    )
    assert nothing["checkup"] == "0 s ago: nothing could be read"
    assert "checkup" not in told(stored(fold(good(AT - 5))))


def test_a_gpu_in_mig_mode_has_no_device_of_its_own() -> None:
    whole = stored(fold(good(AT - 5)))
    stations = told(replace(whole, gpu=replace(whole.gpu, mig_enabled=True)))
    assert stations["device"] == "none: the GPU is in MIG mode, and its instances are the devices"
    assert "service" not in stations


def test_a_destroyed_instance_says_that_it_is_gone() -> None:
    stations = told(replace(stored(fold(good(AT - 5))), gone=True, published=None), "train")
    assert "destroyed while a claim holds it" in stations["verdict"]
    assert "reset" not in stations["verdict"]
    assert stations["claim"] == "Healthy=False, reason MigInstanceGone"


def test_a_failed_gpu_says_why_since_when_who_holds_it_and_what_ends_it() -> None:
    stations = told(stored(fold(good(AT - 20), xid(79, AT - 10)), isolated=True), "train")

    assert stations["fault"].startswith("Xid79, first 10 s ago, last 10 s ago; 1 episode; witnesses: xid")
    assert "class A: definitive" in stations["rule"]
    assert stations["way out"].startswith("an observed reset")
    assert "unhealthy=Xid79:NoSchedule" in stations["device"]
    assert stations["service"] == "out: no new claim gets it"
    assert stations["claim"] == "Healthy=False, reason Xid79"
    assert stations["holders"] == "ml/train"


def test_the_score_is_explained_with_inputs_version_and_the_cap_of_the_state() -> None:
    degraded = told(stored(fold(good(AT - 20), xid(94, AT - 10), good(AT - 5))))
    failed = told(stored(fold(good(AT - 20), xid(79, AT - 10))))

    formula = "version 1: 100(1-0.4x)(0.7+0.3n)(1-0.2e)t with"
    assert degraded["score"] == f"{formula} x 0.25, n 1, e 0, t 1 is 90"
    assert failed["score"] == f"{formula} x 1, n 1, e 0, t 1 is 60, 0 while Unhealthy"


def test_a_verdict_says_what_its_confidence_is_enough_for() -> None:
    alone = told(stored(fold(good(AT - 20), xid(79, AT - 10))))
    driver = told(stored(fold(good(AT - 20), xid(79, AT - 10), asks(2, AT - 9))))

    assert "confidence single, a repair needs approval" in alone["verdict"]
    assert "confidence driver, enough for a repair" in driver["verdict"]


@pytest.mark.parametrize(
    ("since", "told_so"),
    [
        (20, "found 20 s ago, not polled since; Unknown in 36 s; out of service in 280 s"),
        (97, "found 97 s ago, not polled since; Unknown since 41 s; out of service in 203 s"),
        (400, "found 400 s ago, not polled since; Unknown since 344 s; out of service since 100 s"),
    ],
)
def test_a_gpu_that_hangs_has_its_three_times_and_no_reading(since: int, told_so: str) -> None:
    """Finding U7: the values that were read before it hung are not those that it has now."""
    state = fold(good(AT - since - 4), broken(AT - since, ReadStatus.HUNG))
    stations = told(stored(state))

    assert stations["hang"] == told_so
    last = since + 4
    assert (
        stations["reading"] == f"none: an NVML call for this GPU does not return; last good one {last} s ago"
    )
    assert "hang" not in told(stored(fold(good(AT - 1), state=state)))


def test_a_reading_that_is_too_old_is_none() -> None:
    """Finding U7: after XID 119 the GPU is probed seldom."""
    stations = told(stored(fold(good(AT - 99), xid(119, AT - 98))))

    assert stations["reading"].startswith(
        "none for 99 s, last good one 99 s ago; it then read: recovery action"
    )


def test_the_history_says_what_failed_before_and_what_ended_it() -> None:
    order = ClearReport(
        source=Source.OPERATOR, seen=moment(AT - 60), uuid=UUID, operator_reason="board swapped"
    )
    stations = told(stored(fold(good(AT - 90), xid(79, AT - 80), order, good(AT - 59))))

    assert stations["past"] == (
        "Xid79, ended 60 s ago by operator: board swapped; it had taken the GPU out of service"
    )


def test_a_gpu_that_nobody_reads_is_unknown_and_stays_in_service() -> None:
    stations = told(stored(fold()))

    assert stations["reading"] == "never read"
    assert stations["verdict"].startswith("Unknown, score 0")
    assert stations["service"] == "in: it can be allocated"


@pytest.mark.parametrize("name", ["GPU-0003", "0000:03:00.0", "gpu-0000-03-00-0"])
def test_a_gpu_is_found_by_uuid_bus_id_and_device_name(name: str) -> None:
    entry = stored(fold())

    assert find_gpu([entry], name) is entry


def test_a_gpu_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"'gpu-9': this node has no such GPU; it has gpu-0000-03-00-0"):
        find_gpu([stored(fold())], "gpu-9")


def test_a_suspect_says_how_long_it_has_left() -> None:
    stations = told(
        stored(fold(good(AT - 100), good(AT - 60, links=links(4)), good(AT - 10, links=links(4))))
    )

    assert stations["dwell"].startswith(
        "NvlinkDown: out of service in 240 s if it lasts; 2 episodes within 300 s"
    )
    assert stations["kubelet"].startswith("HEALTHY")


def test_a_burst_says_what_began_it() -> None:
    stations = told(stored(fold(good(AT - 20), xid(79, AT - 10), xid(45, AT - 9)), isolated=True))

    assert (
        stations["burst"] == "XID 45, 79 are one incident; its root is XID 79, the first of the most severe"
    )
    assert "dwell" not in stations
