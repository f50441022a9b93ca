"""The publisher against the embedded API server: its writes and its repairs."""

import time
from collections.abc import Iterator

import pytest

from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.errors import Invalid
from gpuvitals.kube.slices.taint_support import probe_mode
from gpuvitals.kube.transport import ConnectSettings, Transport, connect
from gpuvitals_sim.apiserver import ApiServer, Match
from support.fakes.scripted_server import Answer, scripted
from support.worlds.publisher_world import DRIVER, KIND, LateAnswers, World, pool_for, running, started

SLICES = Match(resource="resourceslices", verbs=("create", "update", "delete"))


@pytest.fixture
def world() -> Iterator[World]:
    with running() as running_world:
        yield running_world


def test_publishing_the_same_twice_is_one_write(world: World) -> None:
    world.publish(1)
    world.publish(2)

    assert world.writes() == ["POST"]


def test_a_fault_is_one_put_and_keeps_the_generation(world: World) -> None:
    world.publish(1)
    before = world.slices()[0]
    world.publish(2, 3)
    after = world.slices()[0]

    assert world.writes() == ["POST", "PUT"]
    assert before["spec"]["pool"] == after["spec"]["pool"]
    changed = [
        index for index in range(8) if before["spec"]["devices"][index] != after["spec"]["devices"][index]
    ]
    assert changed == [3]


def test_a_wipe_is_repaired_within_a_second_with_the_taint_as_old_as_before(world: World) -> None:
    world.publish(1, 3)
    before = world.slices()[0]
    world.client.delete(KIND, before["metadata"]["name"])
    took = world.wait(lambda: len(world.slices()) == 1)

    assert took < 1
    assert world.slices()[0]["spec"]["devices"][3]["taints"] == before["spec"]["devices"][3]["taints"]


def test_a_foreign_edit_is_undone(world: World) -> None:
    world.publish(1, 3)
    edited = world.slices()[0]
    del edited["spec"]["devices"][3]["taints"]
    world.client.update(KIND, edited)

    world.wait(lambda: "taints" in world.slices()[0]["spec"]["devices"][3])


def test_a_wiped_slice_stays_away_while_no_kubelet_is_connected(world: World) -> None:
    world.publish(1)
    world.publisher.set_kubelet_connected(False)
    world.wipe()
    time.sleep(0.3)

    assert world.slices() == []
    world.publisher.set_kubelet_connected(True)
    world.wait(lambda: len(world.slices()) == 1)


def test_a_fault_is_written_into_a_standing_slice_although_no_kubelet_is_connected(world: World) -> None:
    world.publish(1)
    world.publisher.set_kubelet_connected(False)
    world.publish(2, 3)

    assert world.taint_of(3)["value"] == "Xid79"


def test_a_conflict_is_rebased_at_once(world: World) -> None:
    world.publish(1)
    world.server.faults.fail(409, times=3, match=SLICES)
    began = time.monotonic()
    world.publish(2, 3)

    assert world.taint_of(3)
    assert world.writes() == ["POST", "PUT", "PUT", "PUT", "PUT"]
    assert time.monotonic() - began < 1


def test_an_edit_that_the_watch_did_not_show_yet_is_rebased_on(world: World) -> None:
    world.publish(1)
    world.server.faults.stall_watches()
    edited = world.slices()[0]
    edited["metadata"]["labels"] = {"by": "somebody"}
    world.client.update(KIND, edited)
    world.publish(2, 3)
    world.server.faults.resume_watches()

    assert world.taint_of(3)


def test_a_slice_that_vanished_behind_the_watch_is_created_anew(world: World) -> None:
    world.publish(1)
    world.server.faults.stall_watches()
    world.wipe()
    world.publish(2, 3)
    world.server.faults.resume_watches()
    time.sleep(0.1)

    assert len(world.slices()) == 1
    assert world.taint_of(3)


@pytest.mark.parametrize("stalled", [False, True], ids=["watch live", "watch behind"])
def test_an_answer_that_got_lost_creates_no_second_slice(world: World, stalled: bool) -> None:
    world.wait(lambda: bool(world.server.requests.select(verb="watch")))
    if stalled:
        world.server.faults.stall_watches()
    world.server.faults.lose_answer(match=SLICES)
    world.publish(1)
    world.server.faults.resume_watches()

    assert len(world.slices()) == 1
    assert world.writes() == ["POST"]


def test_an_answer_that_got_lost_is_no_second_put(world: World) -> None:
    world.publish(1)
    world.server.faults.lose_answer(match=SLICES)
    world.publish(2, 3)

    assert world.writes() == ["POST", "PUT"]


def test_a_fault_of_an_outage_is_stored_within_a_second_of_its_end(world: World) -> None:
    world.publish(1)
    with world.server.outage():
        world.publisher.publish(pool_for(3), 2)
        time.sleep(1.0)
        assert world.publisher.is_pending
        assert "no answer" in world.publisher.blocked
    took = world.wait(lambda: 2 in world.published)

    assert took < 1.1
    assert (world.publisher.is_pending, world.publisher.blocked) == (False, "")


def test_a_new_fault_does_not_wait_out_an_old_ones_back_off(world: World) -> None:
    world.publish(1)
    broken = world.server.faults.fail(500, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    time.sleep(0.6)
    broken.end()
    world.publisher.publish(pool_for(3, 4), 3)

    assert world.wait(lambda: 3 in world.published) < 0.3


def test_a_fault_of_an_outage_is_stored_soon_after_a_server_that_first_refuses_us(world: World) -> None:
    """Finding K1: after an outage the server answers 403 until its rules of access are loaded."""
    world.publish(1)
    with world.server.outage():
        world.publisher.publish(pool_for(3), 2)
        time.sleep(4.0)
        loading = world.server.faults.fail(403, times=None, match=Match(user_agent="gpuvitals"))
    world.wait(lambda: loading.hits > 0, 10)
    time.sleep(0.5)
    loading.end()

    assert world.wait(lambda: 2 in world.published, 10) < 3


@pytest.mark.parametrize("status", [302, 408, 429, 502])
def test_an_answer_of_a_proxy_is_no_refusal_of_a_device(world: World, status: int) -> None:
    """Finding R12: a GPU that returns to service is not left out for one passing answer."""
    world.publish(1, 3)
    world.server.faults.fail(status, times=1, match=SLICES)
    world.publisher.publish(pool_for(), 2)

    assert world.wait(lambda: 2 in world.published, 10) < 6
    assert len(world.slices()[0]["spec"]["devices"]) == 8
    assert world.refusals == []


@pytest.mark.parametrize("status", [403, 422, 500])
def test_a_new_fault_never_waits_for_the_back_off_of_an_old_one(world: World, status: int) -> None:
    """Finding K1."""
    world.publish(1)
    broken = world.server.faults.fail(status, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    # The next wait is of 3 s and more; an invalid body is sent again after 10 s.
    world.wait(lambda: broken.hits >= (1 if status == 422 else 7), 20)
    broken.end()
    world.publisher.publish(pool_for(3, 4), 3)

    assert world.wait(lambda: 3 in world.published) < 2


def test_a_fault_that_comes_during_a_try_that_fails_does_not_wait_for_its_back_off(world: World) -> None:
    """Finding K1."""
    world.publish(1)
    broken = world.server.faults.fail(500, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    world.wait(lambda: broken.hits >= 7, 20)
    broken.end()
    slow = world.server.faults.delay(1.0, times=1, match=SLICES)
    world.server.faults.fail(500, times=1, match=SLICES)
    world.wait(lambda: slow.hits >= 1, 20)
    world.publisher.publish(pool_for(3, 4), 3)

    # The try takes a second, and the wait after it would be 5 s and more.
    assert world.wait(lambda: 3 in world.published) < 4


def test_a_fault_that_a_policy_refused_is_stored_seconds_after_the_policy_is_mended(world: World) -> None:
    """Finding K1: an admission policy answers 422, as a body at fault does."""
    world.publish(1)
    refusing = world.server.faults.fail(422, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    world.wait(lambda: refusing.hits > 0)
    refusing.end()

    assert world.wait(lambda: 2 in world.published, 20) < 15


def test_a_dead_webhook_is_asked_less_and_less_and_told_once(world: World) -> None:
    """Finding K5."""
    world.publish(1)
    dead = world.server.faults.fail(500, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    world.wait(lambda: len(world.refusals) == 1, 10)
    time.sleep(6)

    assert dead.hits <= 9
    assert len(world.refusals) == 1
    assert "500" in world.refusals[0]


def test_what_others_wrote_into_a_slice_survives_a_fault_and_a_wipe(world: World) -> None:
    """Finding K2."""
    world.publish(1)
    edited = world.slices()[0]
    theirs = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "f", "uid": "u-1"}
    edited["metadata"]["labels"] = {"team": "a"}
    edited["metadata"]["annotations"]["example.com/x"] = "y"
    edited["metadata"]["finalizers"] = ["example.com/hold"]
    edited["metadata"]["ownerReferences"].append(theirs)
    world.client.update(KIND, edited)
    world.publish(2, 3)
    after = world.slices()[0]["metadata"]

    assert (after["labels"], after["finalizers"]) == ({"team": "a"}, ["example.com/hold"])
    assert after["annotations"]["example.com/x"] == "y"
    assert theirs in after["ownerReferences"]
    released = world.slices()[0]
    released["metadata"]["finalizers"] = []
    world.client.update(KIND, released)
    world.wipe()
    world.wait(lambda: [entry["metadata"]["uid"] for entry in world.slices()] not in ([], [after["uid"]]))
    again = world.slices()[0]["metadata"]
    assert (again["labels"], again["annotations"]) == (after["labels"], after["annotations"])
    assert theirs in again["ownerReferences"]


def test_a_slice_with_a_finalizer_stays_current_and_is_created_again_once_gone(
    world: World,
) -> None:
    """Finding K2."""
    world.publish(1)
    held = world.slices()[0]
    held["metadata"]["finalizers"] = ["example.com/hold"]
    world.client.update(KIND, held)
    world.wipe()
    world.publish(2, 3)
    waiting = world.slices()[0]

    assert "taints" in waiting["spec"]["devices"][3]
    assert "deletionTimestamp" in waiting["metadata"]
    waiting["metadata"]["finalizers"] = []
    world.client.update(KIND, waiting)
    world.wait(
        lambda: [entry["metadata"]["uid"] for entry in world.slices()] not in ([], [held["metadata"]["uid"]])
    )
    assert "taints" in world.slices()[0]["spec"]["devices"][3]
    assert "finalizers" not in world.slices()[0]["metadata"]


def test_a_slice_that_is_deleted_before_its_write_is_answered_is_created_again() -> None:
    """Finding K3."""
    late: list[LateAnswers] = []

    def through(transport: Transport) -> Transport:
        late.append(LateAnswers(transport))
        return late[0]

    with running(through=through) as world:
        world.publish(1)
        world.publisher.publish(pool_for(3), 2)
        assert late[0].is_written.wait(5)
        world.wipe()
        world.wait(lambda: len(world.slices()) == 1)

        assert world.taint_of(3)["value"] == "Xid79"
        assert world.writes() == ["POST", "PUT", "POST"]


def test_the_servers_own_time_to_retry_is_kept_also_for_a_new_fault(world: World) -> None:
    world.publish(1)
    world.server.faults.fail(429, times=1, retry_after_seconds=1, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    world.wait(lambda: len(world.writes()) == 2)
    world.publisher.publish(pool_for(3, 4), 3)
    took = world.wait(lambda: 3 in world.published)

    assert 0.8 < took < 2
    assert world.writes() == ["POST", "PUT", "PUT"]


def test_a_missing_right_is_no_hot_loop_and_is_told(world: World) -> None:
    world.publish(1)
    world.server.faults.fail(403, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    time.sleep(0.6)

    assert 2 <= len(world.writes()) <= 6
    assert "403" in world.publisher.blocked
    assert world.refusals == [world.publisher.blocked]
    assert len(world.slices()) == 1


def test_a_refused_body_is_sent_once_and_the_last_good_slice_stays(world: World) -> None:
    world.publish(1)
    before = world.slices()
    world.server.faults.fail(422, times=None, match=SLICES)
    world.publisher.publish(pool_for(3), 2)
    world.wait(lambda: "422" in world.publisher.blocked)
    world.wait(lambda: len(world.refusals) == 2)
    world.publisher.set_kubelet_connected(False)
    world.publisher.set_kubelet_connected(True)
    time.sleep(0.3)

    assert world.writes() == ["POST", "PUT", "PUT"], "once with and once without the device that changed"
    assert world.slices() == before
    world.server.faults.clear()
    world.publish(3, 3, 4)
    assert world.publisher.blocked == ""


def test_what_the_server_stores_otherwise_is_left_so_without_a_loop(world: World) -> None:
    world.server.faults.drop_fields(KIND, "spec.devices[].capacity")
    world.publish(1)
    world.publish(2, 3)
    time.sleep(0.2)

    assert world.writes() == ["POST", "PUT"]
    assert world.publisher.mode is ServiceMode.TAINT


def test_a_quarrel_over_a_slice_is_slowed_down(world: World) -> None:
    """Somebody undoes every write at once: after the first few we answer once a second."""
    world.publish(1, 3)
    before = len(world.writes())
    began = time.monotonic()
    while time.monotonic() - began < 1.2:
        edited = world.slices()[0]
        if "taints" in edited["spec"]["devices"][3]:
            del edited["spec"]["devices"][3]["taints"]
            world.client.update(KIND, edited)
        time.sleep(0.002)

    assert 5 <= len(world.writes()) - before <= 8
    assert world.wait(lambda: "taints" in world.slices()[0]["spec"]["devices"][3]) < 1.2


def test_faults_that_come_one_by_one_in_a_moment_are_two_puts(world: World) -> None:
    world.publish(1)
    time.sleep(0.25)
    for failed in range(8):
        world.publisher.publish(pool_for(*range(failed + 1)), 2 + failed)
        time.sleep(0.015)
    world.wait(lambda: 9 in world.published)
    time.sleep(0.25)

    assert world.writes() == ["POST", "PUT", "PUT"]
    assert all("taints" in entry for entry in world.slices()[0]["spec"]["devices"])


def test_a_lone_fault_does_not_wait(world: World) -> None:
    world.publish(1)
    time.sleep(0.25)
    began = time.monotonic()
    world.publish(2, 3)

    assert time.monotonic() - began < 0.15


def test_a_fault_costs_one_request_and_no_look_at_the_node(world: World) -> None:
    world.publish(1)
    world.wait(lambda: bool(world.server.requests.select(verb="watch")))
    world.server.requests.clear()
    world.publish(2, 3)
    time.sleep(0.1)

    assert [entry.method for entry in world.server.requests.all()] == ["PUT"]


def test_a_node_created_anew_gets_its_slices_with_its_own_uid() -> None:
    """The garbage collector takes the slices of the old Node; the repair looks the new one up."""
    with running() as world:
        world.publish(1)
        world.client.delete("nodes", "node-a")
        uid = world.create_node()
        world.wipe()
        world.wait(lambda: len(world.slices()) == 1)

        assert [owner["uid"] for owner in world.slices()[0]["metadata"]["ownerReferences"]] == [uid]


def test_an_owner_reference_is_mended_in_place_where_nothing_wipes() -> None:
    with running(owner_seconds=0.0) as world:
        world.publish(1)
        world.client.delete("nodes", "node-a")
        uid = world.create_node()
        world.publish(2, 3)

        assert world.slices()[0]["metadata"]["ownerReferences"][0]["uid"] == uid
        assert world.writes() == ["POST", "PUT"]


def test_a_taint_is_as_old_as_it_was_after_a_wipe_while_the_agent_was_away() -> None:
    with ApiServer() as server:
        first = World(server)
        with started(first):
            first.publish(1, 3)
            added = first.taint_of(3)["timeAdded"]
        first.wipe()
        time.sleep(1.1)
        with started(World(server, taint_times=first.publisher.taint_times())) as second:
            second.publish(1, 3)

            assert second.taint_of(3)["timeAdded"] == added


def test_a_taint_is_as_old_as_it_was_after_somebody_took_it_off(world: World) -> None:
    world.publish(1, 3)
    added = world.taint_of(3)["timeAdded"]
    time.sleep(1.05)
    edited = world.slices()[0]
    del edited["spec"]["devices"][3]["taints"]
    world.client.update(KIND, edited)
    world.wait(lambda: "taints" in world.slices()[0]["spec"]["devices"][3])

    assert world.taint_of(3)["timeAdded"] == added


def test_the_next_process_takes_over_what_stands_without_a_write() -> None:
    with ApiServer() as server:
        for _ in range(2):
            world = World(server)
            with started(world, connected=False) if world.slices() else started(world):
                world.publish(1, 3)
        assert world.writes() == ["POST"]


@pytest.mark.parametrize("mode", [None, ServiceMode.TAINT], ids=["asked", "believed"])
def test_a_server_that_drops_taints_has_the_device_withdrawn(mode: ServiceMode | None) -> None:
    server = ApiServer()
    server.faults.drop_device_taints()
    with running(server, mode=mode) as world:
        world.publish(1, 3)

        assert world.publisher.mode is ServiceMode.WITHDRAW
        assert [entry["name"] for entry in world.slices()[0]["spec"]["devices"]] == [
            f"gpu-{index}" for index in range(8) if index != 3
        ]


@pytest.mark.parametrize("dropping", [False, True])
def test_the_probe_finds_the_mode_and_stores_nothing(dropping: bool) -> None:
    with ApiServer() as server:
        if dropping:
            server.faults.drop_device_taints()
        mode = probe_mode(connect(ConnectSettings(url=server.url)), DRIVER, "node-a")
        stored = server.client("test").list(KIND)

    assert mode is (ServiceMode.WITHDRAW if dropping else ServiceMode.TAINT)
    assert stored == []


def test_a_server_that_refuses_the_effect_none_has_devices_withdrawn() -> None:
    """1.34 with the gate on; any other refusal is not the taint's fault and is reported."""
    refusal = b'{"kind":"Status","reason":"Invalid","message":"m","details":{"causes":[{"field":"spec.devices[0].taints[0].effect"}]}}'
    with scripted(lambda method, target: Answer(status=422, chunks=(refusal,))) as script:
        assert probe_mode(connect(ConnectSettings(url=script.url)), DRIVER, "node-a") is ServiceMode.WITHDRAW
    policy = Answer(status=422, chunks=(b'{"kind":"Status","message":"a policy says no"}',))
    with scripted(lambda method, target: policy) as script, pytest.raises(Invalid, match="a policy says no"):
        probe_mode(connect(ConnectSettings(url=script.url)), DRIVER, "node-a")


def test_stop_is_quick_also_in_an_outage() -> None:
    with running() as world:
        world.publish(1)
        with world.server.outage():
            world.publisher.publish(pool_for(3), 2)
            time.sleep(0.1)
            began = time.monotonic()
            world.publisher.stop(5)
            assert time.monotonic() - began < 1


def test_slices_stay_when_the_publisher_stops() -> None:
    with running() as world:
        world.publish(1)
        world.publisher.stop(5)

        assert len(world.slices()) == 1
