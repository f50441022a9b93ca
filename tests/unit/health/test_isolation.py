"""Who leaves service, and what is worth a write."""

from dataclasses import replace

from gpuvitals.health.isolation import is_capped, isolated
from gpuvitals.health.publication import worth_publishing
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid
from support.signals import POLICY, fold, good, judge, xid

HEALTHY = judge(fold(good(1000)), 1000)
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


def test_definitive_faults_use_up_the_room_of_the_suspects() -> None:
    mixed = node(failed=3, suspects=3, healthy=2)

    out = isolated(mixed, POLICY)
    assert len(out) == 4
    assert {verdict.uuid for verdict in mixed[:3]} <= out


def test_healthy_gpus_are_never_isolated() -> None:
    assert isolated(node(failed=0, suspects=0, healthy=8), POLICY) == frozenset()


def test_a_change_of_state_is_told_at_once() -> None:
    assert worth_publishing(HEALTHY, replace(FAILED, uuid=HEALTHY.uuid), 0, POLICY)


def test_the_same_verdict_is_told_once() -> None:
    assert worth_publishing(None, HEALTHY, 0, POLICY)
    assert not worth_publishing(HEALTHY, HEALTHY, 1e9, POLICY)


def test_small_moves_of_the_score_are_not_told_and_larger_ones_not_too_often() -> None:
    assert not worth_publishing(HEALTHY, replace(HEALTHY, score=96), 1e9, POLICY)
    assert not worth_publishing(HEALTHY, replace(HEALTHY, score=95), 29, POLICY)
    assert worth_publishing(HEALTHY, replace(HEALTHY, score=95), 30, POLICY)
    assert not worth_publishing(replace(HEALTHY, score=91), HEALTHY, 3599, POLICY)
