"""Flapping readings cause at most two writes a minute, and the score recovers only after a quiet minute."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.model.signal import FabricState, ReadStatus
from support.signals import POLICY, broken, fold, good, judge, links
from support.worlds.agent_world import AgentWorld, gpu, reading

BAD = {
    "a link": {"links": links(17)},
    "most links": {"links": links(3)},
    "links not read": {"links": None},
    "fabric": {"fabric": FabricState.FAILED},
    "fabric trains": {"fabric": FabricState.IN_PROGRESS},
    "remap pending": {"remap_pending": True},
    "remap not read": {"remap_pending": None, "remap_failed": None},
    "bank without spare": {"banks_without_spare": 1},
    "uncorrected": {"ecc_uncorrected_volatile": 3},
    "reset asked": {"recovery_action": 1},
    "drain asked": {"recovery_action": 3},
    "action not read": {"recovery_action": None},
    "slowdown": {"hardware_slowdown": True},
    "several": {"links": links(9), "remap_pending": True, "recovery_action": 99},
}


@pytest.mark.parametrize("on_off", [(1, 1), (1, 70), (20, 20), (20, 61), (45, 70), (61, 61)], ids=str)
@pytest.mark.parametrize("bad", BAD)
def test_at_most_two_writes_in_any_minute(bad: str, on_off: tuple[int, int], tmp_path: Path) -> None:
    """GPU 0 of two, for ten minutes; the other one is read as good as ever."""
    on, off = on_off
    world = AgentWorld(tmp_path, gpus=2)
    world.begin()
    written: list[int] = []
    for at in range(1001, 1001 + 600):
        is_bad = (at - 1001) % (on + off) < on
        before = len(world.published)
        world.turn(at, reading(0, at, **(BAD[bad] if is_bad else {})), reading(1, at))
        written += [at] * (len(world.published) - before)

    assert all(third - first >= 60 for first, third in zip(written, written[2:], strict=False)), written


@pytest.mark.parametrize(
    ("status", "most"),
    [(ReadStatus.LOST, 1), (ReadStatus.HUNG, 2), (ReadStatus.FAILED, 0), (ReadStatus.RESET_REQUIRED, 6)],
    ids=str,
)
def test_a_gpu_that_answers_every_other_second_is_few_writes_at_all(
    status: ReadStatus, most: int, tmp_path: Path
) -> None:
    """A driver that refuses and answers in turn has reset the GPU each time: the third repair does not count."""
    world = AgentWorld(tmp_path, gpus=1)
    world.begin()
    for at in range(1001, 1001 + 600):
        world.turn(at, reading(0, at) if at % 2 else replace(broken(at, status), uuid=gpu(0).uuid))

    assert len(world.published) - 1 <= most


@pytest.mark.parametrize("bad", BAD)
def test_the_score_never_rises_before_a_quiet_minute(bad: str) -> None:
    state, scores = fold(good(1000)), [100]
    for at in range(1001, 1301):
        state = fold(good(at, **(BAD[bad] if at % 2 else {})), state=state)
        scores.append(judge(state, at).score)
    for at in range(1301, 1300 + POLICY.level_clear_seconds):
        state = fold(good(at), state=state)
        scores.append(judge(state, at).score)

    assert all(later <= earlier for earlier, later in zip(scores, scores[1:], strict=False))
