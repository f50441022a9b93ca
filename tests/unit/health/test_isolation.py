"""Who leaves service."""

from dataclasses import replace

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


def test_half_of_an_odd_node_is_rounded_down_and_a_node_of_one_is_never_emptied_on_suspicion() -> None:
    assert len(isolated(node(failed=0, suspects=7, healthy=0), POLICY)) == 3
    assert isolated(node(failed=0, suspects=1, healthy=0), POLICY) == frozenset()
    assert len(isolated(node(failed=1, suspects=0, healthy=0), POLICY)) == 1


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
