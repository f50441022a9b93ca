"""The mode follows the server: one that is upgraded under the publisher, one that is rolled back, one that is not asked."""

import time

import pytest

from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.errors import Retryable
from gpuvitals.kube.slices.taint_support import TaintSupport
from support.worlds.publisher_world import World, running


def names(world: World) -> list[str]:
    return [entry["name"] for entry in world.slices()[0]["spec"]["devices"]]


def test_a_server_upgrade_and_rollback_are_followed_without_a_restart() -> None:
    with running(mode=None) as world:
        world.server.faults.drop_device_taints()
        world.publish(1, 3)
        assert "gpu-3" not in names(world)

        with world.server.outage():
            world.server.faults.clear()
        world.wait(lambda: "gpu-3" in names(world))
        assert world.taint_of(3)["value"] == "Xid79"
        assert world.publisher.mode is ServiceMode.TAINT

        with world.server.outage():
            world.server.faults.drop_device_taints()
        world.wait(lambda: "gpu-3" not in names(world))
        assert world.publisher.mode is ServiceMode.WITHDRAW


def test_a_mode_that_is_configured_outlives_an_outage_and_is_never_asked_for() -> None:
    with running(mode=ServiceMode.WITHDRAW) as world:
        world.publish(1, 3)
        with world.server.outage():
            pass
        world.wait(lambda: len(world.server.requests.select(verb="watch")) == 2)
        world.publish(2, 3, 4)

        assert names(world) == ["gpu-0", "gpu-1", "gpu-2", "gpu-5", "gpu-6", "gpu-7"]
        assert world.writes() == ["POST", "PUT"]


def test_a_question_that_fails_leaves_the_last_answer_and_is_put_again() -> None:
    answers: list[ServiceMode | None] = [ServiceMode.TAINT, None, ServiceMode.WITHDRAW]

    def ask() -> ServiceMode:
        answer = answers.pop(0)
        if answer is None:
            raise Retryable("too busy")
        return answer

    mode = TaintSupport(None, ask)
    assert [mode.current(), mode.current()] == [ServiceMode.TAINT] * 2
    mode.doubt()
    assert mode.current() is ServiceMode.TAINT
    assert mode.current() is ServiceMode.WITHDRAW
    assert answers == []


def test_a_first_question_that_fails_is_an_error() -> None:
    def ask() -> ServiceMode:
        raise Retryable("too busy")

    with pytest.raises(Retryable, match="too busy"):
        TaintSupport(None, ask).current()


def test_a_detected_withdraw_mode_expires_and_a_configured_one_does_not() -> None:
    """Of several servers that are upgraded one by one an old one may have answered, unnoticed by the watch."""
    answers = [ServiceMode.WITHDRAW, ServiceMode.WITHDRAW, ServiceMode.TAINT]
    mode = TaintSupport(None, lambda: answers.pop(0), again_seconds=0.0)
    seen = []
    for _ in range(5):
        seen.append(mode.current())
        time.sleep(0.001)
    assert seen == [*[ServiceMode.WITHDRAW] * 2, *[ServiceMode.TAINT] * 3]

    fixed = TaintSupport(ServiceMode.WITHDRAW, lambda: answers.pop(0), again_seconds=0.0)
    assert fixed.current() is ServiceMode.WITHDRAW
    assert answers == []
