"""The projection of a snapshot: attributes, taints, slices, the report, claim entries."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.health.reasons import is_reason
from gpuvitals.inventory.attributes import attributes, omitted_versions, semver
from gpuvitals.inventory.claims import ClaimRef, ConditionStatus, PreparedDevice, claim_entries
from gpuvitals.inventory.device import (
    MAX_KEYS,
    MAX_STRING,
    Device,
    TaintEffect,
    Version,
    device_name,
    quantity,
)
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.next_step import NEXT_STEP, with_next_step
from gpuvitals.inventory.node_report import MAX_BYTES, node_report
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode, taints
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import ClaimUid, DeviceName, GpuUuid, PciBusId
from gpuvitals.model.snapshot import GpuHealth
from support.signals import moment
from support.worlds.snapshots import SINCE, entry, gpu, snapshot

NAMING = Naming()
ALWAYS = {
    "health/score",
    "health/class",
    "health/state",
    "health/reason",
    "health/xidErrors",
    "health/lastXid",
    "health/nvlinkStatus",
    "health/nvlinkBandwidthPercent",
    "health/eccUncorrected",
    "health/rowRemap",
    "health/recoveryAction",
    "health/coverage",
    "uuid",
    "type",
    "productName",
}


READ = {
    "architecture",
    "brand",
    "minor",
    "driverVersion",
    "cudaDriverVersion",
    "cudaComputeCapability",
    "resource.kubernetes.io/pciBusID",
    "resource.kubernetes.io/pcieRoot",
    "resource.kubernetes.io/numaNode",
}


def devices(
    gpus: int, states: dict[int, HealthState] | None = None, mode: ServiceMode = ServiceMode.TAINT
) -> list[Device]:
    planned = pool(snapshot(gpus, states), NAMING, mode)
    return [device for part in planned.slices for device in part.devices]


@pytest.mark.parametrize("state", list(HealthState))
def test_every_health_key_is_there_in_every_state(state: HealthState) -> None:
    assert {key for key, _ in attributes(entry(0, state), NAMING)} >= ALWAYS


def test_a_gpu_read_in_full_shows_the_whole_list_and_no_more() -> None:
    assert {key for key, _ in attributes(entry(0), NAMING)} == ALWAYS | READ


@pytest.mark.parametrize("state", list(HealthState))
def test_keys_have_the_types_of_the_public_interface_in_every_state(state: HealthState) -> None:
    shown = dict(attributes(entry(0, state), NAMING))

    numbers = {"score", "xidErrors", "lastXid", "nvlinkBandwidthPercent", "eccUncorrected", "coverage"}
    assert {key for key, value in shown.items() if isinstance(value, Version)} == {
        "driverVersion",
        "cudaDriverVersion",
        "cudaComputeCapability",
    }
    assert {key for key, value in shown.items() if isinstance(value, int)} == {
        *(f"health/{name}" for name in numbers),
        "minor",
        "resource.kubernetes.io/numaNode",
    }
    texts = [value for value in shown.values() if isinstance(value, str)]
    assert all(1 <= len(text.encode()) <= MAX_STRING for text in texts)


def test_the_health_keys_follow_the_configured_domain_and_nothing_else_does() -> None:
    renamed = {key for key, _ in attributes(entry(0), Naming(attribute_domain="vitals"))}

    assert renamed == {key.replace("health/", "vitals/") for key in ALWAYS | READ}


def test_a_mig_instance_adds_its_parent_and_profile_and_fits_what_a_device_may_hold() -> None:
    mig = MigInstance(parent=GpuUuid("GPU-0000"), profile="1g.10gb", gpu_instance=7, compute_instance=0)
    instance = replace(gpu(0), uuid=GpuUuid("MIG-0"), kind=DeviceKind.MIG, mig=mig)
    node = replace(snapshot(1), gpus=(replace(entry(0), gpu=instance),))
    (device,) = pool(node, NAMING, ServiceMode.TAINT).slices[0].devices

    shown = dict(device.attributes)
    assert shown.keys() == ALWAYS | READ | {"parentUUID", "profile"}
    assert (shown["type"], shown["parentUUID"], shown["profile"]) == ("mig", "GPU-0000", "1g.10gb")
    assert len(device.attributes) + len(device.capacity) <= MAX_KEYS
    assert device.name == "gpu-0000-00-00-0-mig-1g-10gb-gi7-ci0"


def test_a_gpu_of_which_little_is_known_leaves_out_what_has_no_value() -> None:
    bare = Gpu(uuid=GpuUuid("GPU-x"), bus_id=PciBusId("0000:01:00.0"), product_name="x" * 100, memory_bytes=1)
    shown = dict(
        attributes(GpuHealth(gpu=bare, verdict=entry(0).verdict, isolated=False, state_since=SINCE), NAMING)
    )

    assert shown.keys() == ALWAYS | {"resource.kubernetes.io/pciBusID"}
    assert shown["productName"] == "x" * 64


def test_no_string_is_empty_since_it_would_match_another_empty_string() -> None:
    mig = MigInstance(parent=GpuUuid("GPU-0000"), profile="", gpu_instance=7, compute_instance=0)
    nameless = replace(gpu(0), kind=DeviceKind.MIG, mig=mig, product_name="", architecture="", brand="")
    shown = dict(attributes(replace(entry(0), gpu=nameless), NAMING))

    assert "" not in shown.values()
    assert shown["productName"] == "unknown"
    assert "profile" not in shown


def test_a_version_that_is_none_is_left_out_and_counted_and_silence_is_not() -> None:
    odd = replace(gpu(0), driver_version="575-beta", cuda_driver_version="")

    assert omitted_versions(odd) == ("driverVersion",)
    assert omitted_versions(gpu(0)) == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("535.54.03", Version("535.54.3")),
        ("12.8", Version("12.8.0")),
        ("9", Version("9.0.0")),
        ("", None),
        ("575-beta", None),
        ("1.2.3.4", None),
        ("v1.2.3", None),
        ("1.", None),
        ("1.2.3\n", None),
        ("9" * 5000, None),
        ("١٢.8", None),
    ],
)
def test_versions_become_strict_semver_or_nothing(text: str, version: Version | None) -> None:
    assert semver(text) == version


@pytest.mark.parametrize(
    ("count", "text"), [(80 << 30, "80Gi"), (81559 << 20, "81559Mi"), (0, "0"), (1500, "1500"), (3000, "3k")]
)
def test_a_quantity_is_written_as_the_server_writes_it_back(count: int, text: str) -> None:
    assert quantity(count) == text


@pytest.mark.parametrize(
    ("state", "key", "effect"),
    [
        (HealthState.UNHEALTHY, "gpu.vitals.internal/unhealthy", TaintEffect.NO_SCHEDULE),
        (HealthState.DEGRADED, "gpu.vitals.internal/degraded", TaintEffect.NONE),
        (HealthState.UNKNOWN, "gpu.vitals.internal/unknown", TaintEffect.NONE),
    ],
)
def test_a_taint_is_named_after_the_state(state: HealthState, key: str, effect: TaintEffect) -> None:
    (taint,) = taints(entry(0, state), NAMING)

    assert (taint.key, taint.effect) == (key, effect)
    assert taint.value == entry(0, state).verdict.reason


def test_a_healthy_gpu_has_no_taint() -> None:
    assert taints(entry(0), NAMING) == ()


@pytest.mark.parametrize("state", list(HealthState))
@pytest.mark.parametrize("isolated", [False, True], ids=["in service", "out"])
def test_taints_are_few_have_different_keys_and_never_evict(state: HealthState, isolated: bool) -> None:
    found = taints(replace(entry(0, state), isolated=isolated), NAMING)

    assert len(found) <= 4
    assert len({taint.key for taint in found}) == len(found)
    assert {taint.effect for taint in found} <= {TaintEffect.NONE, TaintEffect.NO_SCHEDULE}


def test_an_unhealthy_gpu_that_the_cap_keeps_in_service_is_not_closed_to_new_claims() -> None:
    (taint,) = taints(replace(entry(0, HealthState.UNHEALTHY), isolated=False), NAMING)

    assert (taint.key, taint.effect) == ("gpu.vitals.internal/unhealthy", TaintEffect.NONE)


def test_names_come_from_the_bus_and_devices_stand_by_class_then_bus() -> None:
    shown = devices(4, {0: HealthState.UNHEALTHY, 2: HealthState.DEGRADED})

    assert [device.name for device in shown] == [device_name(gpu(index)) for index in (1, 3, 2, 0)]
    assert shown[0].name == "gpu-0000-01-00-0"


@pytest.mark.parametrize("mode", list(ServiceMode))
@pytest.mark.parametrize("state", [state for state in HealthState if state is not HealthState.HEALTHY])
def test_one_gpus_change_leaves_the_siblings_devices_equal(state: HealthState, mode: ServiceMode) -> None:
    name = device_name(gpu(3))
    before, after = devices(8, mode=mode), devices(8, {3: state}, mode)

    siblings = [device for device in before if device.name != name]
    assert len(siblings) == 7
    assert [device for device in after if device.name != name] == siblings
    assert [device for device in after if device.name == name] != [
        device for device in before if device.name == name
    ]


def test_withdrawing_keeps_degraded_and_unknown_gpus_in_the_slice() -> None:
    states = {0: HealthState.DEGRADED, 1: HealthState.UNKNOWN, 2: HealthState.UNHEALTHY}
    shown = devices(4, states, ServiceMode.WITHDRAW)

    assert {device.name for device in shown} == {device_name(gpu(index)) for index in (0, 1, 3)}


@pytest.mark.parametrize(("gpus", "shards"), [(0, [0]), (8, [8]), (64, [64]), (65, [64, 1]), (128, [64, 64])])
def test_a_slice_never_holds_more_than_64_devices(gpus: int, shards: list[int]) -> None:
    planned = pool(snapshot(gpus), NAMING, ServiceMode.TAINT)

    assert [len(part.devices) for part in planned.slices] == shards


def test_a_device_keeps_its_slice_whatever_becomes_of_any() -> None:
    def homes(states: dict[int, HealthState]) -> dict[str, int]:
        planned = pool(snapshot(130, states), NAMING, ServiceMode.TAINT)
        return {device.name: part.index for part in planned.slices for device in part.devices}

    mixed = dict(zip(range(130), list(HealthState) * 33, strict=False))
    assert homes(mixed) == homes({})


def test_withdrawing_removes_the_failed_gpu_alone_and_moves_no_sibling() -> None:
    planned = pool(snapshot(70, {3: HealthState.UNHEALTHY}), NAMING, ServiceMode.WITHDRAW)

    assert [len(part.devices) for part in planned.slices] == [63, 6]
    assert not any(device.taints for part in planned.slices for device in part.devices)
    report = json.loads(dict(planned.slices[0].annotations)["vitals.internal/node-report"])
    assert [record["uuid"] for record in report["withdrawn"]] == ["GPU-0003"]


def test_the_report_stays_within_its_bound() -> None:
    everything = dict.fromkeys(range(128), HealthState.UNHEALTHY)
    text = node_report(snapshot(128, everything), ServiceMode.WITHDRAW)

    assert len(text.encode()) <= MAX_BYTES
    report = json.loads(text)
    listed = [record["uuid"] for record in report["withdrawn"]]
    assert listed == [gpu(index).uuid for index in range(len(listed))]
    assert listed
    assert len(listed) + report["withdrawnOmitted"] == 128


def test_a_report_stays_within_its_bound_whatever_is_missing() -> None:
    node = snapshot(8, {1: HealthState.UNHEALTHY})
    gone = tuple(f"0000:{index:02x}:{index % 32:02x}.0" for index in range(2000))
    text = node_report(replace(node, facts=replace(node.facts, missing_gpus=gone)), ServiceMode.WITHDRAW)

    assert len(text.encode()) <= MAX_BYTES
    report = json.loads(text)
    assert len(report["missingGpus"]) + report["missingGpusOmitted"] == 2000


def test_a_report_says_nothing_that_moves_without_a_verdict() -> None:
    """Two snapshots of one node at other times, under other revisions, with more memory errors: one report."""
    before = snapshot(8, {1: HealthState.UNHEALTHY})
    worn = tuple(
        replace(one, verdict=replace(one.verdict, ecc_uncorrected=one.verdict.ecc_uncorrected + 7))
        for one in before.gpus
    )
    after = replace(before, revision=99, taken=moment(90_000), gpus=worn)

    for mode in ServiceMode:
        assert node_report(before, mode) == node_report(after, mode)


def test_a_report_that_fits_names_every_withdrawn_gpu_and_omits_none() -> None:
    report = json.loads(node_report(snapshot(8, {1: HealthState.UNHEALTHY}), ServiceMode.WITHDRAW))

    assert [record["device"] for record in report["withdrawn"]] == [device_name(gpu(1))]
    assert "withdrawnOmitted" not in report


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (HealthState.HEALTHY, ConditionStatus.TRUE),
        (HealthState.DEGRADED, ConditionStatus.TRUE),
        (HealthState.UNHEALTHY, ConditionStatus.FALSE),
        (HealthState.UNKNOWN, ConditionStatus.UNKNOWN),
    ],
)
def test_a_claim_shows_the_health_of_the_device_it_holds(state: HealthState, status: ConditionStatus) -> None:
    claim = ClaimRef(namespace="default", name="c", uid=ClaimUid("u"))
    prepared = PreparedDevice(
        claim=claim, uuid=GpuUuid("GPU-0001"), device=DeviceName("gpu-0"), share_id=None, prepared_time=SINCE
    )
    shown = claim_entries(snapshot(2, {1: state}), (prepared,), NAMING)

    (only,) = shown[claim]
    healthy = next(condition for condition in only.conditions if condition.type == "Healthy")
    assert (healthy.status, healthy.reason) == (status, entry(1, state).verdict.reason)
    assert dict(only.data)["uuid"] == "GPU-0001"
    assert all(is_reason(condition.reason) for condition in only.conditions)


def test_a_degraded_device_is_healthy_with_the_reason_that_degrades_it() -> None:
    claim = ClaimRef(namespace="default", name="c", uid=ClaimUid("u"))
    prepared = PreparedDevice(
        claim=claim, uuid=GpuUuid("GPU-0001"), device=DeviceName("gpu-0"), share_id=None, prepared_time=SINCE
    )
    (only,) = claim_entries(snapshot(2, {1: HealthState.DEGRADED}), (prepared,), NAMING)[claim]

    healthy, ready = only.conditions
    assert (healthy.type, healthy.status, healthy.reason) == ("Healthy", ConditionStatus.TRUE, "Xid94")
    assert healthy.message
    assert (ready.type, ready.status) == ("Ready", ConditionStatus.TRUE)


def test_a_device_that_nobody_knows_is_not_spoken_of() -> None:
    claim = ClaimRef(namespace="default", name="c", uid=ClaimUid("u"))
    prepared = PreparedDevice(
        claim=claim, uuid=GpuUuid("GPU-9999"), device=DeviceName("gpu-0"), share_id=None, prepared_time=SINCE
    )

    assert claim_entries(snapshot(2), (prepared,), NAMING) == {}


@pytest.mark.parametrize(
    ("state", "spared", "is_told"),
    [
        (HealthState.UNHEALTHY, "", True),
        (HealthState.UNHEALTHY, "policy calm: Observe", False),
        (HealthState.DEGRADED, "", False),
        (HealthState.UNKNOWN, "", False),
        (HealthState.HEALTHY, "", False),
    ],
)
def test_a_claim_whose_device_left_service_says_what_its_owner_does_next(
    state: HealthState, spared: str, is_told: bool
) -> None:
    """Finding K8."""
    claim = ClaimRef(namespace="default", name="c", uid=ClaimUid("u"))
    prepared = PreparedDevice(
        claim=claim, uuid=GpuUuid("GPU-0001"), device=DeviceName("gpu-0"), share_id=None, prepared_time=SINCE
    )
    whole = snapshot(2, {1: state})
    whole = replace(whole, gpus=(whole.gpus[0], replace(whole.gpus[1], spared=spared)))
    (only,) = claim_entries(whole, (prepared,), NAMING)[claim]

    message = only.conditions[0].message
    assert message.endswith(NEXT_STEP) is is_told
    assert message.startswith(whole.gpus[1].verdict.message)


@given(st.text(max_size=2000))
def test_the_next_step_is_never_cut_off(message: str) -> None:
    """Finding K8."""
    told = with_next_step(message)
    assert told.endswith(NEXT_STEP) or "delete the pod" in message
    assert "delete the pod" in message or len(told.encode()) <= 1000
    assert with_next_step(told) == told
