"""The pure plan: the devices of a first Prepare, and every refusal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.device import device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, AllocatedDevice, Toleration
from gpuvitals.kubeletplugin.claims.plan import (
    NodeView,
    PreparePlan,
    invalid_ref,
    plan_prepare,
    same_allocation,
)
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice, MigIds
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode
from gpuvitals.model.gpu import DeviceKind, MigInstance
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import DeviceName, GpuUuid, Reason
from gpuvitals.model.snapshot import GpuHealth
from support.worlds.plugin_world import DRIVER, NODE, snapshot_of, uid_of

SNAPSHOT = snapshot_of(3)
VIEW = NodeView(snapshot=SNAPSHOT, naming=Naming())
REF = ClaimRef(namespace="ml", name="c", uid=uid_of(1))
GPU0 = "gpu-0000-05-00-0"
GPU1 = "gpu-0000-06-00-0"


def result(**changed: object) -> AllocatedDevice:
    return replace(AllocatedDevice(request="r", driver=DRIVER, pool=NODE, device=GPU0), **changed)


def claim(*results: AllocatedDevice, **changed: object) -> AllocatedClaim:
    return replace(AllocatedClaim(namespace="ml", name="c", uid=uid_of(1), results=results), **changed)


def held(number: int, device: str = GPU0, **changed: object) -> HeldClaim:
    entry = HeldDevice(
        uuid=GpuUuid(f"GPU-{(device == GPU1):08d}"), device=DeviceName(device), minor=0, requests=("r",)
    )
    return HeldClaim(
        claim=ClaimRef(namespace="ml", name=f"c{number}", uid=uid_of(number)),
        devices=(replace(entry, **changed),),
        prepared_time=datetime(2026, 1, 1, tzinfo=UTC),
    )


def judged(state: HealthState, *, isolated: bool) -> NodeView:
    first = SNAPSHOT.gpus[0]
    entry = replace(
        first, isolated=isolated, verdict=replace(first.verdict, state=state, reason=Reason("Xid79"))
    )
    return replace(VIEW, snapshot=replace(SNAPSHOT, gpus=(entry, *SNAPSHOT.gpus[1:])))


@pytest.mark.parametrize(
    ("allocated", "code"),
    [
        (claim(result(), uid=uid_of(2)), RefusalCode.CLAIM_REPLACED),
        (claim(allocated=False), RefusalCode.NOT_ALLOCATED),
        (claim(*[result()] * 33), RefusalCode.TOO_MANY_DEVICES),
        (claim(result(pool="node-b")), RefusalCode.WRONG_POOL),
        (claim(result(device="gpu-9")), RefusalCode.UNKNOWN_DEVICE),
        (claim(result(device="../../dev/sda")), RefusalCode.UNKNOWN_DEVICE),
        (claim(result(), result(request="s")), RefusalCode.DUPLICATE_DEVICE),
        (claim(result(request="Not_A_Label")), RefusalCode.INVALID_ARGUMENT),
        (claim(result(request="a/b/c")), RefusalCode.INVALID_ARGUMENT),
        (claim(result(request="")), RefusalCode.INVALID_ARGUMENT),
        (claim(result(share_id="../x")), RefusalCode.INVALID_ARGUMENT),
    ],
    ids=[
        "uid",
        "allocation",
        "33 results",
        "pool",
        "device",
        "device path",
        "twice",
        "request",
        "request depth",
        "no request",
        "share id",
    ],
)
def test_what_cannot_be_justified_is_refused(allocated: AllocatedClaim, code: RefusalCode) -> None:
    plan = plan_prepare(REF, allocated, (), VIEW)
    assert isinstance(plan, Refusal)
    assert plan.code is code


def test_subrequest_is_stripped_for_the_kubelet_and_kept_for_configs() -> None:
    plan = plan_prepare(REF, claim(result(request="gpu/healthy")), (), VIEW)
    assert isinstance(plan, PreparePlan)
    assert plan.devices[0].requests == ("gpu",)
    assert plan.result_requests == (("gpu/healthy",),)


def test_device_held_by_another_claim_is_refused_and_one_held_by_itself_is_not() -> None:
    refused = plan_prepare(REF, claim(result()), (held(2),), VIEW)
    assert isinstance(refused, Refusal)
    assert refused.code is RefusalCode.DEVICE_IN_USE
    assert "ml/c2" in refused.message
    assert isinstance(plan_prepare(REF, claim(result()), (held(1),), VIEW), PreparePlan)


@pytest.mark.parametrize(
    ("wanted", "theirs", "granted"),
    [
        (result(admin_access=True), {}, True),
        (result(), {"admin": True}, True),
        (result(share_id="s-1"), {"share_id": "s-2"}, True),
        (result(share_id="s-1"), {"share_id": "s-1"}, False),
        (result(share_id="s-1"), {}, False),
        (result(), {"share_id": "s-1"}, False),
    ],
    ids=["admin", "beside admin", "other share", "same share", "share of a whole", "whole of a share"],
)
def test_only_admin_access_and_different_shares_go_together(
    wanted: AllocatedDevice, theirs: dict[str, object], granted: bool
) -> None:
    plan = plan_prepare(REF, claim(wanted), (held(2, **theirs),), VIEW)
    assert isinstance(plan, PreparePlan) is granted


def test_admin_requests_for_one_device_become_one_entry_with_both_requests() -> None:
    both = claim(result(admin_access=True), result(request="s", admin_access=True))
    plan = plan_prepare(REF, both, (), VIEW)
    assert isinstance(plan, PreparePlan)
    assert [device.requests for device in plan.devices] == [("r", "s")]


@pytest.mark.parametrize(
    ("tolerations", "granted"),
    [
        ((), False),
        ((Toleration(operator="Exists"),), True),
        ((Toleration(key=f"{DRIVER}/unhealthy", operator="Exists"),), True),
        ((Toleration(key=f"{DRIVER}/unhealthy", value="Xid79", effect="NoSchedule"),), True),
        ((Toleration(key=f"{DRIVER}/unhealthy", value="Xid48"),), False),
        ((Toleration(key=f"{DRIVER}/unhealthy", operator="Exists", effect="NoExecute"),), False),
        ((Toleration(key="other/unhealthy", operator="Exists"),), False),
    ],
    ids=["none", "everything", "key", "key and value", "other value", "other effect", "other key"],
)
def test_isolated_device_goes_only_to_who_tolerates_its_taint(
    tolerations: tuple[Toleration, ...], granted: bool
) -> None:
    view = judged(HealthState.UNHEALTHY, isolated=True)
    plan = plan_prepare(REF, claim(result(tolerations=tolerations)), (), view)
    assert isinstance(plan, PreparePlan) is granted


@pytest.mark.parametrize("state", [HealthState.DEGRADED, HealthState.UNKNOWN])
def test_degraded_and_unknown_devices_are_given_as_long_as_they_are_not_isolated(state: HealthState) -> None:
    assert isinstance(plan_prepare(REF, claim(result()), (), judged(state, isolated=False)), PreparePlan)
    assert isinstance(plan_prepare(REF, claim(result()), (), judged(state, isolated=True)), Refusal)


def test_sibling_of_an_unhealthy_device_is_given() -> None:
    view = judged(HealthState.UNHEALTHY, isolated=True)
    assert isinstance(plan_prepare(REF, claim(result(device=GPU1)), (), view), PreparePlan)


def test_admin_access_reaches_unhealthy_and_fenced_devices() -> None:
    view = judged(HealthState.UNHEALTHY, isolated=True)
    fenced = replace(view, fenced=frozenset({SNAPSHOT.gpus[0].gpu.uuid}))
    assert isinstance(plan_prepare(REF, claim(result(admin_access=True)), (), fenced), PreparePlan)


def test_mig_device_carries_its_parents_minor_and_its_instance_ids() -> None:
    parent = SNAPSHOT.gpus[2]
    gpu = replace(
        parent.gpu,
        uuid=GpuUuid("MIG-1"),
        kind=DeviceKind.MIG,
        minor=None,
        mig=MigInstance(
            parent=parent.gpu.uuid, profile="1g.10gb", gpu_instance=7, compute_instance=0, placement=3
        ),
    )
    view = replace(VIEW, snapshot=replace(SNAPSHOT, gpus=(*SNAPSHOT.gpus, replace(parent, gpu=gpu))))
    plan = plan_prepare(REF, claim(result(device="gpu-0000-07-00-0-mig-1g-10gb-3")), (), view)
    assert isinstance(plan, PreparePlan)
    assert (plan.devices[0].minor, plan.devices[0].mig.gpu_instance) == (2, 7)


def test_a_gpu_that_was_divided_after_its_allocation_is_refused_as_a_whole() -> None:
    whole = SNAPSHOT.gpus[0]
    divided = replace(whole, gpu=replace(whole.gpu, mig_enabled=True))
    view = replace(VIEW, snapshot=replace(SNAPSHOT, gpus=(divided, *SNAPSHOT.gpus[1:])))
    refused = plan_prepare(REF, claim(result()), (), view)
    assert isinstance(refused, Refusal)
    assert (refused.code, "is in MIG mode" in refused.message) == (RefusalCode.UNKNOWN_DEVICE, True)


def test_claim_names_of_253_characters_are_accepted() -> None:
    assert invalid_ref(replace(REF, name="a" * 253)) is None
    assert invalid_ref(replace(REF, name="a" * 254)) is not None


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (claim(result()), True),
        (claim(result(device=GPU1)), False),
        (claim(result(pool="node-b")), False),
        (claim(result(), result(device=GPU1)), False),
        (claim(allocated=False), False),
        (claim(result(), uid=uid_of(2)), False),
        (claim(result(), result(driver="nic.example.com", device="nic")), True),
    ],
    ids=["same", "other device", "other pool", "one more", "deallocated", "other uid", "foreign result"],
)
def test_same_allocation_sees_every_change_of_our_devices(now: AllocatedClaim, same: bool) -> None:
    assert same_allocation(now, held(1), Naming(), NODE) is same


TAKEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def refusal(plan: PreparePlan | Refusal) -> tuple[RefusalCode, str]:
    assert isinstance(plan, Refusal)
    return plan.code, plan.message


def test_a_claim_that_was_prepared_on_the_board_before_is_refused() -> None:
    """Findings R1 and N1: after a reboot the slot holds another board, and the claim's status names the old one."""
    code, message = refusal(plan_prepare(REF, claim(result(prepared_on="GPU-old")), (), VIEW))

    assert code is RefusalCode.DEVICE_REPLACED
    assert "on gpu GPU-old" in message
    assert f"gpu {SNAPSHOT.gpus[0].gpu.uuid} is in its slot now" in message
    assert "delete the pod and its claim" in message


def test_a_claim_that_was_prepared_on_this_board_is_prepared_again() -> None:
    """Finding R1: the board went and came back."""
    there = SNAPSHOT.gpus[0]
    view = replace(
        VIEW, snapshot=replace(SNAPSHOT, gpus=(replace(there, slot_taken=TAKEN), *SNAPSHOT.gpus[1:]))
    )
    again = claim(result(prepared_on=there.gpu.uuid), allocated_by=TAKEN - timedelta(days=1))

    assert isinstance(plan_prepare(REF, again, (), view), PreparePlan)


@pytest.mark.parametrize(
    ("allocated_by", "slot_taken", "is_refused"),
    [
        pytest.param(TAKEN - timedelta(hours=1), TAKEN, True, id="allocated to the board before"),
        pytest.param(TAKEN + timedelta(seconds=1), TAKEN, False, id="allocated to this board"),
        pytest.param(TAKEN - timedelta(seconds=30), TAKEN, False, id="within the clocks' difference"),
        pytest.param(None, TAKEN, False, id="the claim does not say when"),
        pytest.param(TAKEN - timedelta(hours=1), None, False, id="no other board was there"),
    ],
)
def test_a_first_preparation_gets_the_board_that_it_can_have_been_allocated(
    allocated_by: datetime | None, slot_taken: datetime | None, is_refused: bool
) -> None:
    """Finding R1: the claim was allocated, and never prepared, before the board was replaced."""
    there = replace(SNAPSHOT.gpus[0], slot_taken=slot_taken)
    view = replace(VIEW, snapshot=replace(SNAPSHOT, gpus=(there, *SNAPSHOT.gpus[1:])))
    plan = plan_prepare(REF, claim(result(), allocated_by=allocated_by), (), view)

    assert isinstance(plan, Refusal) is is_refused
    if is_refused:
        assert refusal(plan)[0] is RefusalCode.DEVICE_REPLACED


def test_a_slot_is_held_also_by_a_claim_on_the_board_before() -> None:
    """Finding R1: a force-deleted claim is not unprepared yet, and its pod may have the device node open."""
    theirs = held(2, uuid=GpuUuid("GPU-old"))
    code, _ = refusal(plan_prepare(REF, claim(result()), (theirs,), VIEW))

    assert code is RefusalCode.DEVICE_IN_USE


def instance_of(index: int, profile: str, placement: int, number: int = 7) -> GpuHealth:
    parent = SNAPSHOT.gpus[index]
    mig = MigInstance(
        parent=parent.gpu.uuid,
        profile=profile,
        gpu_instance=number,
        compute_instance=0,
        placement=placement,
        compute_placement=0,
    )
    gpu = replace(parent.gpu, uuid=GpuUuid(f"MIG-{index}-{number}"), kind=DeviceKind.MIG, minor=None, mig=mig)
    return replace(parent, gpu=gpu)


def with_instances(index: int, *parts: GpuHealth) -> NodeView:
    gpus = list(SNAPSHOT.gpus)
    gpus[index] = replace(gpus[index], gpu=replace(gpus[index].gpu, mig_enabled=True))
    return replace(VIEW, snapshot=replace(SNAPSHOT, gpus=(*gpus, *parts)))


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(instance_of(0, "1c.3g.40gb", 4, 1), id="a compute instance of a third"),
        pytest.param(instance_of(0, "4g.40gb", 0, 1), id="another profile under the same ids"),
        pytest.param(instance_of(0, "3g.40gb", 0, 1), id="the same profile at another place"),
    ],
)
def test_an_instance_of_another_profile_or_place_is_not_what_was_allocated(now: GpuHealth) -> None:
    """Finding P3: after a reboot the GPU is divided otherwise, under the same instance ids."""
    allocated = device_name(instance_of(0, "3g.40gb", 4, 1).gpu)
    code, message = refusal(plan_prepare(REF, claim(result(device=allocated)), (), with_instances(0, now)))

    assert code is RefusalCode.UNKNOWN_DEVICE
    assert f"now has other MIG instances: {device_name(now.gpu)}" in message


def test_an_instance_made_again_on_the_same_board_is_what_was_allocated() -> None:
    """Finding P3: the layout is restored after a reboot, with new ids."""
    allocated = device_name(instance_of(0, "3g.40gb", 4, 1).gpu)
    view = with_instances(0, instance_of(0, "3g.40gb", 4, 2))
    again = claim(result(device=allocated, prepared_on=SNAPSHOT.gpus[0].gpu.uuid))
    plan = plan_prepare(REF, again, (), view)

    assert isinstance(plan, PreparePlan)
    other_board = replace(again, results=(replace(again.results[0], prepared_on="GPU-old"),))
    assert refusal(plan_prepare(REF, other_board, (), view))[0] is RefusalCode.DEVICE_REPLACED


def test_a_gpu_and_its_instance_are_one_piece_of_silicon() -> None:
    """Finding P6: a holder of one form keeps the other from being prepared."""
    part = instance_of(0, "1g.10gb", 0)
    name = device_name(part.gpu)
    view = with_instances(0, part)
    code, message = refusal(plan_prepare(REF, claim(result(device=name)), (held(2),), view))
    assert (code, "prepared for claim ml/c2" in message) == (RefusalCode.DEVICE_IN_USE, True)

    theirs = held(2, device=name, uuid=part.gpu.uuid, mig=MigIds(gpu_instance=7, compute_instance=0))
    assert refusal(plan_prepare(REF, claim(result()), (theirs,), VIEW))[0] is RefusalCode.DEVICE_IN_USE
    assert isinstance(plan_prepare(REF, claim(result(device=GPU1)), (theirs,), VIEW), PreparePlan)

    watching = held(2, admin=True)
    assert isinstance(plan_prepare(REF, claim(result(device=name)), (watching,), view), PreparePlan)


def test_a_withheld_device_is_refused_with_the_reason() -> None:
    """Finding P6."""
    there = replace(SNAPSHOT.gpus[0], withheld="a claim holds a MIG instance of this GPU")
    view = replace(VIEW, snapshot=replace(SNAPSHOT, gpus=(there, *SNAPSHOT.gpus[1:])))
    code, message = refusal(plan_prepare(REF, claim(result()), (), view))

    assert (code, "a claim holds a MIG instance" in message) == (RefusalCode.DEVICE_IN_USE, True)


def test_of_several_requests_the_one_that_is_refused_is_named() -> None:
    """Finding K9: the owner of a pod with eight requests could not tell which one was refused."""
    wanted = claim(result(request="healthy"), result(request="other", device="gpu-0000-99-00-0"))
    code, message = refusal(plan_prepare(REF, wanted, (), VIEW))

    assert code is RefusalCode.UNKNOWN_DEVICE
    assert message.startswith("request other: device 'gpu-0000-99-00-0'")
