"""Section 13.2 at the sockets of any driver: answers, idempotence, refusals, shares, restarts."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from conformance.driver import Driver, Given, cdi_devices, registered_endpoint
from gpuvitals.proto import dra_health_v1_pb2 as health
from gpuvitals.proto import dra_health_v1alpha1_pb2 as alpha
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from gpuvitals.proto.dra_health_v1alpha1_pb2_grpc import DRAResourceHealthStub as AlphaStub
from support.worlds.plugin_world import Kubelet, channel

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@dataclass(frozen=True)
class Bench:
    """The running driver with a kubelet's connection to it."""

    driver: Driver
    calls: Kubelet
    opened: grpc.Channel

    def allocate(self, *given: Given) -> dra.Claim:
        return self.driver.allocate(f"claim-{uuid.uuid4().hex[:8]}", *given)

    def prepared(self, claim: dra.Claim) -> list[dra.Device]:
        """The devices of a claim that must be prepared."""
        answer = self.calls.prepare(claim)
        assert list(answer) == [claim.uid]
        assert answer[claim.uid].error == ""
        return list(answer[claim.uid].devices)

    def refused(self, claim: dra.Claim) -> str:
        """Why a claim is not prepared, which must be said of it alone."""
        answer = self.calls.prepare(claim)[claim.uid]
        assert not answer.devices
        assert answer.error
        return answer.error


@pytest.fixture
def bench(running: tuple[Driver, Path]) -> Iterator[Bench]:
    driver, endpoint = running
    with channel(endpoint) as opened:
        calls = Kubelet(opened)
        made: list[dra.Claim] = []
        allocate = driver.allocate

        def remembered(name: str, *given: Given) -> dra.Claim:
            made.append(allocate(name, *given))
            return made[-1]

        driver.allocate = remembered  # type: ignore[method-assign]  # every claim of the test is released again
        try:
            yield Bench(driver, calls, opened)
        finally:
            driver.allocate = allocate  # type: ignore[method-assign]  # as above
            assert set(calls.unprepare(*made).values()) <= {""}
    assert cdi_devices(driver) == {}


def test_an_answer_has_request_pool_and_device_and_its_cdi_ids_exist(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0, request="a"), Given(device=1, request="b/sub"))
    first, second = bench.prepared(claim)
    assert (list(first.request_names), list(second.request_names)) == (["a"], ["b"])
    assert (first.device_name, second.device_name) == (bench.driver.device(0), bench.driver.device(1))
    assert {first.pool_name, second.pool_name} == {bench.driver.node}
    known = cdi_devices(bench.driver)
    ids = [*first.cdi_device_ids, *second.cdi_device_ids]
    assert all(any(known[one].values()) for one in ids)
    assert len(set(ids)) == len(ids)


def test_prepare_twice_is_the_same_answer(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0))
    assert bench.prepared(claim) == bench.prepared(claim)


def test_redundant_calls_at_once_agree(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: bench.prepared(claim), range(12)))
    assert all(answer == answers[0] for answer in answers)


def test_every_claim_of_a_batch_is_answered_and_one_failure_is_its_own(bench: Bench) -> None:
    good, bad = bench.allocate(Given(device=0)), bench.allocate()
    answer = bench.calls.prepare(good, bad)
    assert set(answer) == {good.uid, bad.uid}
    assert answer[good.uid].error == ""
    assert answer[bad.uid].error


def test_a_claim_that_is_not_allocated_is_refused(bench: Bench) -> None:
    bench.refused(bench.allocate())


def test_a_claim_that_was_replaced_under_its_name_is_refused(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0))
    stale = dra.Claim(namespace=claim.namespace, name=claim.name, uid=TWO)
    assert claim.uid in bench.refused(stale)


def test_a_device_of_another_claim_is_refused_until_that_is_released(bench: Bench) -> None:
    first, second = bench.allocate(Given(device=0)), bench.allocate(Given(device=0))
    bench.prepared(first)
    assert first.uid in bench.refused(second)
    assert bench.calls.unprepare(first) == {first.uid: ""}
    assert bench.prepared(second)


def test_devices_of_other_drivers_are_left_to_them(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0), Given(device=1, request="r1", driver="other.example.com"))
    assert [device.device_name for device in bench.prepared(claim)] == [bench.driver.device(0)]
    assert bench.prepared(bench.allocate(Given(device=2, driver="other.example.com"))) == []


@pytest.mark.parametrize("shares", [(), (ONE,), (ONE, TWO)], ids=["none", "one", "two"])
def test_shares_of_a_device_are_answered_with_their_ids_and_edits_of_their_own(
    bench: Bench, shares: tuple[str, ...]
) -> None:
    given = [Given(device=0, request=f"r{number}", share_id=one) for number, one in enumerate(shares)]
    devices = bench.prepared(bench.allocate(*(given or [Given(device=0)])))
    assert [device.share_id for device in devices if device.HasField("share_id")] == list(shares)
    assert len({device.cdi_device_ids[0] for device in devices}) == len(devices)


def test_shares_of_a_device_go_to_different_claims_and_each_share_to_one(bench: Bench) -> None:
    first, second = (
        bench.allocate(Given(device=0, share_id=ONE)),
        bench.allocate(Given(device=0, share_id=TWO)),
    )
    third, whole = bench.allocate(Given(device=0, share_id=ONE)), bench.allocate(Given(device=0))
    bench.prepared(first)
    bench.prepared(second)
    bench.refused(third)
    bench.refused(whole)


def test_admin_access_sees_a_device_that_another_claim_holds(bench: Bench) -> None:
    holder, admin = bench.allocate(Given(device=0)), bench.allocate(Given(device=0, admin=True))
    held = bench.prepared(holder)
    (seen,) = bench.prepared(admin)
    assert seen.device_name == held[0].device_name
    assert seen.cdi_device_ids[0] != held[0].cdi_device_ids[0]
    assert bench.calls.unprepare(admin) == {admin.uid: ""}
    assert bench.prepared(holder) == held


def test_unprepare_of_an_unknown_claim_and_twice_succeeds(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0))
    bench.prepared(claim)
    unknown = dra.Claim(namespace="default", name="never", uid=str(uuid.uuid4()))
    assert bench.calls.unprepare(claim, unknown) == {claim.uid: "", unknown.uid: ""}
    assert bench.calls.unprepare(claim) == {claim.uid: ""}


def test_unprepare_succeeds_when_the_claim_is_gone_from_the_api(bench: Bench) -> None:
    claim = bench.allocate(Given(device=0))
    bench.prepared(claim)
    bench.driver.remove(claim)
    assert bench.calls.unprepare(claim) == {claim.uid: ""}


def test_names_that_are_paths_are_refused_and_write_nothing(bench: Bench) -> None:
    for bad in (
        dra.Claim(namespace="default", name="c", uid="../../etc/passwd"),
        dra.Claim(namespace="..", name="c", uid=ONE),
        dra.Claim(namespace="default", name="../c", uid=ONE),
    ):
        bench.refused(bad)
    assert cdi_devices(bench.driver) == {}


@pytest.mark.parametrize("version", ["v1", "v1alpha1"])
def test_the_health_stream_sends_the_whole_list_first_and_again_within_5_seconds(
    bench: Bench, version: str
) -> None:
    if version == "v1":
        call = DRAResourceHealthStub(bench.opened).NodeWatchResources(
            health.NodeWatchResourcesRequest(), timeout=20
        )
    else:
        call = AlphaStub(bench.opened).NodeWatchResources(alpha.NodeWatchResourcesRequest(), timeout=20)
    began = time.monotonic()
    first = next(call)
    assert time.monotonic() - began < 2
    told = time.monotonic()
    second = next(call)
    waited = time.monotonic() - told
    call.cancel()
    names = {entry.device.device_name for entry in first.devices}
    assert {bench.driver.device(number) for number in range(3)} <= names
    assert {entry.device.device_name for entry in second.devices} == names
    assert {entry.device.pool_name for entry in first.devices} == {bench.driver.node}
    assert waited < 5
    assert all(0 < waited < entry.health_check_timeout_seconds for entry in first.devices)


def test_calls_are_served_while_the_health_stream_is_open(bench: Bench) -> None:
    call = DRAResourceHealthStub(bench.opened).NodeWatchResources(
        health.NodeWatchResourcesRequest(), timeout=20
    )
    reader = threading.Thread(target=lambda: _drain(call))
    reader.start()
    claims = [bench.allocate(Given(device=number)) for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(bench.prepared, claims))
    assert len({answer[0].device_name for answer in answers}) == 3
    call.cancel()
    reader.join(5)


def _drain(call: Iterator[health.NodeWatchResourcesResponse]) -> None:
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        return


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_prepared_claim_outlives_the_process(driver: Driver, how: str) -> None:
    driver.start()
    claim = driver.allocate("kept", Given(device=0))
    with channel(registered_endpoint(driver)) as opened:
        before = list(Kubelet(opened).prepare(claim)[claim.uid].devices)
    edits = cdi_devices(driver)
    getattr(driver, how)()
    driver.start()
    rival = driver.allocate("rival", Given(device=0))
    with channel(registered_endpoint(driver)) as opened:
        calls = Kubelet(opened)
        assert list(calls.prepare(claim)[claim.uid].devices) == before
        assert cdi_devices(driver) == edits
        assert claim.uid in calls.prepare(rival)[rival.uid].error
        assert calls.unprepare(claim) == {claim.uid: ""}
        assert calls.prepare(rival)[rival.uid].error == ""
