"""The verdicts of an earlier agent are read from its stored slices, of any version."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gpuvitals.health.policy import Policy
from gpuvitals.health.verdict import verdict
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.codec import Placement, Stored, slice_body
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.slices.recall import shown_verdicts
from gpuvitals.model.ids import BootId, NodeName
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from support.signals import GPU, UUID, fold, good, moment, xid

NAMING = Naming()


def published(mode: ServiceMode) -> dict[str, Any]:
    """The list of slices in which a GPU with XID 95 is out of service."""
    state = fold(good(1000), xid(95, 1010))
    entry = GpuHealth(
        gpu=GPU,
        verdict=verdict(state, moment(1020), Policy()),
        isolated=True,
        state_since=datetime(2026, 1, 1, tzinfo=UTC),
    )
    snapshot = Snapshot(
        revision=1,
        taken=moment(1020),
        node=NodeName("node-a"),
        gpus=(entry,),
        facts=NodeFacts(),
        boot_id=BootId("boot-1"),
    )
    made = pool(snapshot, NAMING, mode)
    owner, place = NodeOwner(name="node-a", uid="u"), Placement(generation=1, count=1)
    return {
        "items": [slice_body(each, made, owner, place, Stored(foreign={}, times={})) for each in made.slices]
    }


@pytest.mark.parametrize("mode", ServiceMode)
def test_a_failed_device_is_read_back_in_both_modes(mode: ServiceMode) -> None:
    """Finding K4: by its taint and its attributes, or by the record of withdrawn devices."""
    (found,) = shown_verdicts(json.dumps(published(mode)).encode(), NAMING)

    assert (found.uuid, found.state, found.reason) == (UUID, "Unhealthy", "Xid95")
    assert (found.isolated, found.boot_id, found.last_xid) == (True, "boot-1", 95)


def test_a_taint_alone_is_enough() -> None:
    """Finding K4: attributes of a newer version may have other names."""
    listed = published(ServiceMode.TAINT)
    device = listed["items"][0]["spec"]["devices"][0]
    device["attributes"] = {"uuid": device["attributes"]["uuid"], "health/state": {"list": ["Unhealthy"]}}
    (found,) = shown_verdicts(json.dumps(listed).encode(), NAMING)

    assert (found.state, found.reason, found.isolated) == ("Unhealthy", "Xid95", True)


@pytest.mark.parametrize(
    "broken",
    [
        {"items": None},
        {"items": [1, None, {"spec": 3}, {"metadata": {"annotations": {NAMING.node_report: "{"}}}]},
        {"items": [{"spec": {"devices": [{"attributes": {"uuid": {"string": 3}}}, {"taints": [4]}, "x"]}}]},
        {"items": [{"metadata": {"annotations": {NAMING.node_report: '{"withdrawn": [{"uuid": 1}, 2]}'}}}]},
        {"items": [{"metadata": {"annotations": {NAMING.node_report: "[" * 20_000}}}]},
    ],
)
def test_a_slice_that_can_not_be_read_costs_itself(broken: dict[str, Any]) -> None:
    whole = published(ServiceMode.TAINT)["items"] if broken["items"] is not None else []
    body = json.dumps({"items": [*(broken["items"] or []), *whole]}).encode()

    assert [found.uuid for found in shown_verdicts(body, NAMING)] == [UUID] * len(whole)


def test_what_is_no_list_is_an_error_of_its_own() -> None:
    for body in (b"", b"[]", b"{", b'{"items":' + b"[" * 100_000, b"\xff"):
        with pytest.raises(msgspec.DecodeError):
            shown_verdicts(body, NAMING)
