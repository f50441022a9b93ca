"""The GPUs that leave service."""

from dataclasses import replace

import pytest

from gpuvitals.health.isolation import is_capped, isolated
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid
from support.signals import POLICY, fold, good, judge, xid

HEALTHY = judge(fold(good(1000)), 1000)
UNKNOWN = judge(fold(), 1000)
FAILED = judge(fold(good(1000), xid(79, 1001)), 1001)


def node(*, failed: int, suspects: int, healthy: int) -> list[Verdict]:
    kinds = [FAILED] * failed + [replace(FAILED, definitive=False)] * suspects + [HEALTHY] * healthy
    return [replace(kind, uuid=GpuUuid(f"GPU-{index}")) for index, kind in enumerate(kinds)]


def test_definitive_evidence_isolates_every_gpu_it_names() -> None:
    assert len(isolated(node(failed=8, suspects=0, healthy=0), POLICY)) == 8


def test_suspicion_stops_at_half_of_the_node() -> None:
    crowd = node(failed=0, suspects=6, healthy=2)

    assert len(isolated(crowd, POLICY)) == 4
    assert is_capped(crowd, POLICY)


def test_a_new_suspect_brings_no_isolated_one_back_into_service() -> None:
    crowd = node(failed=0, suspects=5, healthy=3)
    already = frozenset(verdict.uuid for verdict in crowd[1:5])

    assert isolated(crowd, POLICY, already) == already


def test_half_of_an_odd_node_is_rounded_down() -> None:
    assert len(isolated(node(failed=0, suspects=7, healthy=0), POLICY)) == 3


@pytest.mark.parametrize(
    ("suspects", "healthy", "share", "out"),
    [(1, 0, 50, 1), (2, 0, 50, 1), (3, 0, 50, 1), (4, 4, 10, 1), (1, 0, 0, 0), (8, 0, 0, 0)],
    ids=["the only one", "one of two", "one of three", "a share below one", "none of one", "none"],
)
def test_one_suspect_may_always_go_but_where_the_policy_says_none(
    suspects: int, healthy: int, share: int, out: int
) -> None:
    policy = replace(POLICY, isolation_cap_percent=share)

    assert len(isolated(node(failed=0, suspects=suspects, healthy=healthy), policy)) == out


def test_a_suspect_gpu_goes_with_all_its_instances_and_counts_once() -> None:
    """Two GPUs of three devices each, all of them suspect: one whole GPU goes."""
    crowd = node(failed=0, suspects=6, healthy=0)
    parents = {GpuUuid(f"GPU-{index}"): GpuUuid(f"GPU-{index // 3 * 3}") for index in range(6)}

    assert isolated(crowd, POLICY, parents=parents) == {"GPU-0", "GPU-1", "GPU-2"}
    assert isolated(crowd, POLICY, frozenset({GpuUuid("GPU-4")}), parents) == {"GPU-3", "GPU-4", "GPU-5"}
    assert is_capped(crowd, POLICY, parents)
    assert not is_capped(crowd[:3], POLICY, parents)


def test_an_instance_that_failed_for_certain_goes_alone() -> None:
    mixed = node(failed=1, suspects=0, healthy=5)
    parents = dict.fromkeys([GpuUuid("GPU-0"), GpuUuid("GPU-1")], GpuUuid("GPU-2"))

    assert isolated(mixed, POLICY, parents=parents) == {"GPU-0"}


def test_blindness_isolates_nobody_unless_the_policy_asks() -> None:
    blind = [replace(UNKNOWN, uuid=GpuUuid(f"GPU-{index}")) for index in range(8)]

    assert isolated(blind, POLICY) == frozenset()
    assert not is_capped(blind, POLICY)
    asking = replace(POLICY, isolate_unknown=1)
    assert len(isolated(blind, asking)) == 4
    assert is_capped(blind, asking)


def test_definitive_faults_use_up_the_room_of_the_suspects() -> None:
    mixed = node(failed=3, suspects=3, healthy=2)

    out = isolated(mixed, POLICY)
    assert len(out) == 4
    assert {verdict.uuid for verdict in mixed[:3]} <= out


def test_healthy_gpus_are_never_isolated() -> None:
    assert isolated(node(failed=0, suspects=0, healthy=8), POLICY) == frozenset()
