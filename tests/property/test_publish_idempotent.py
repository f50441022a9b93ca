"""Publish twice, write once: whatever the node looks like and whatever was stored before, one plan makes it true."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import Pool, pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.codec import ObservedSlice, TaintKey, observed_slice
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.slices.plan import PlanContext, plan
from gpuvitals.model.health import HealthState, NvlinkStatus, RowRemap
from gpuvitals.model.ids import Reason
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from support.long_runs import share
from support.worlds.snapshots import entry, snapshot

NAMING = Naming()
NOTE = NAMING.node_report
OWNER = NodeOwner(name="node-a", uid="uid-node-a")


class Server:
    """Stores objects like a real server: generates names, versions, and the time of a taint without one."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.writes = 0
        self.highest = 0
        self.times: dict[TaintKey, str] = {}
        self.foreign: dict[int, Mapping[str, Any]] = {}

    def remember(self) -> None:
        """The slice as the publisher's cache stores it."""
        self.foreign |= {seen.index: seen.foreign for seen in self.observed() if seen.index is not None}

    def _delete(self, name: str) -> None:
        """As the real one: a finalizer keeps the object, with the time of its deletion."""
        metadata = self.objects[name]["metadata"]
        if metadata.get("finalizers"):
            assert "deletionTimestamp" not in metadata, "deleted twice"
            metadata["deletionTimestamp"] = "2026-11-24T02:00:00Z"
        else:
            del self.objects[name]

    def observed(self) -> list[ObservedSlice]:
        return [observed_slice(json.dumps(stored).encode(), NOTE) for stored in self.objects.values()]

    def publish(self, wanted: Pool) -> int:
        """Makes one plan and all its writes; how many there were."""
        known = PlanContext(generation=self.highest, taint_times=dict(self.times), foreign=dict(self.foreign))
        writes = plan(wanted, OWNER, self.observed(), known)
        for write in writes:
            if write.body is None:
                assert write.target is not None
                self._delete(write.target.name)
            else:
                self._store(json.loads(write.body))
        self.writes += len(writes)
        return len(writes)

    def _store(self, body: dict[str, Any]) -> None:
        self.version += 1
        meta = body["metadata"]
        if "name" in meta:
            stored = self.objects[meta["name"]]["metadata"]
            assert (meta["resourceVersion"], meta["uid"]) == (stored["resourceVersion"], stored["uid"])
        else:
            meta["name"] = f"{meta.pop('generateName')}{self.version}"
            meta["uid"] = f"uid-{self.version}"
        meta["resourceVersion"] = str(self.version)
        for device in body["spec"]["devices"]:
            for taint in device.get("taints", ()):
                taint.setdefault("timeAdded", f"2026-11-24T01:{self.version % 60:02d}:00Z")
        self.objects[meta["name"]] = body
        self.highest = max(self.highest, body["spec"]["pool"]["generation"])
        self.times = dict(self.observed_times()) | self.times
        self.remember()

    def observed_times(self) -> dict[TaintKey, str]:
        return {key: at for seen in self.observed() for key, at in seen.taint_times.items()}

    def devices(self) -> dict[str, str]:
        """Every stored device, as text."""
        listed = [device for stored in self.objects.values() for device in stored["spec"]["devices"]]
        return {device["name"]: json.dumps(device, sort_keys=True) for device in listed}


@st.composite
def gpu_healths(draw: st.DrawFn, index: int) -> GpuHealth:
    healthy = entry(index, draw(st.sampled_from(HealthState)))
    verdict = replace(
        healthy.verdict,
        score=draw(st.integers(0, 100)),
        reason=Reason(draw(st.sampled_from(["None", "Xid79", "Xid48", "RowRemapPending"]))),
        xid_errors=draw(st.integers(0, 5)),
        last_xid=draw(st.sampled_from([0, 79, 48])),
        nvlink_status=draw(st.sampled_from(NvlinkStatus)),
        ecc_uncorrected=draw(st.integers(0, 2**40)),
        row_remap=draw(st.sampled_from(RowRemap)),
        coverage=draw(st.integers(0, 100)),
    )
    return replace(healthy, verdict=verdict, isolated=draw(st.booleans()))


@st.composite
def snapshots(draw: st.DrawFn, counts: tuple[int, ...] = (0, 1, 2, 8, 8, 65)) -> Snapshot:
    """Nodes without a GPU, usual ones, and one with more devices than a slice takes."""
    count = draw(st.sampled_from(counts))
    changed = draw(st.sets(st.integers(0, max(0, count - 1)), max_size=4)) if count else set()
    base = snapshot(count)
    gpus = tuple(draw(gpu_healths(index)) if index in changed else base.gpus[index] for index in range(count))
    missing = tuple(draw(st.lists(st.sampled_from(["0000:00:00.0", "0000:01:00.0"]), unique=True)))
    return replace(base, gpus=gpus, facts=NodeFacts(expected_gpus=count, missing_gpus=missing))


modes = st.sampled_from(ServiceMode)


@given(earlier=st.lists(st.tuples(snapshots(), modes), max_size=3), wanted=snapshots(), mode=modes)
@settings(max_examples=60, deadline=None)
def test_a_second_publication_writes_nothing(
    earlier: list[tuple[Snapshot, ServiceMode]], wanted: Snapshot, mode: ServiceMode
) -> None:
    server = Server()
    for before, under in earlier:
        server.publish(pool(before, NAMING, under))
        assert server.publish(pool(before, NAMING, under)) == 0
    server.publish(pool(wanted, NAMING, mode))

    assert server.publish(pool(wanted, NAMING, mode)) == 0
    assert sorted(server.devices()) == sorted(
        device.name for part in pool(wanted, NAMING, mode).slices for device in part.devices
    )


@given(wanted=snapshots(), mode=modes, data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_others_did_is_undone_in_one_plan_and_no_taint_gets_younger(
    wanted: Snapshot, mode: ServiceMode, data: st.DataObject
) -> None:
    """Slices wiped, edited, renamed out of their index, or left from a half-written generation."""
    server, made = Server(), pool(wanted, NAMING, mode)
    server.publish(made)
    before, times, generation = server.devices(), server.observed_times(), server.highest
    for name in list(server.objects):
        match data.draw(st.sampled_from(["keep", "wipe", "edit", "untaint", "older"])):
            case "wipe":
                del server.objects[name]
            case "edit":
                server.objects[name]["spec"]["devices"] = server.objects[name]["spec"]["devices"][1:]
                server.objects[name]["metadata"]["annotations"] = {}
            case "untaint":
                for device in server.objects[name]["spec"]["devices"]:
                    device.pop("taints", None)
            case "older":
                server.objects[name]["spec"]["pool"]["generation"] = 1
                server.objects[name]["spec"]["pool"]["resourceSliceCount"] = 7
    server.publish(made)

    assert server.publish(made) == 0
    assert server.devices() == before
    assert server.observed_times() == times
    assert server.highest >= generation
    placements = [stored["spec"]["pool"] for stored in server.objects.values()]
    assert {place["generation"] for place in placements} == {server.highest}
    assert {place["resourceSliceCount"] for place in placements} == {len(placements)}


@given(wanted=snapshots().filter(lambda made: bool(made.gpus)), mode=modes, data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_gpus_change_is_one_write_of_its_slice_and_no_siblings_byte(
    wanted: Snapshot, mode: ServiceMode, data: st.DataObject
) -> None:
    server = Server()
    server.publish(pool(wanted, NAMING, mode))
    before, generation = server.devices(), server.highest
    index = data.draw(st.integers(0, min(63, len(wanted.gpus) - 1)))
    gpus = list(wanted.gpus)
    gpus[index] = data.draw(gpu_healths(index))
    changed = replace(wanted, gpus=tuple(gpus))
    writes = server.publish(pool(changed, NAMING, mode))
    after = server.devices()

    assert writes <= 1
    assert server.highest == generation
    touched = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    own = {device for device in touched if device == _name(wanted, index)}
    assert touched == own


def _name(node: Snapshot, index: int) -> str:
    shown = pool(replace(node, gpus=(node.gpus[index],)), NAMING, ServiceMode.TAINT)
    return shown.slices[0].devices[0].name


NAMES = st.sampled_from(["a.example/x", "b.example/y", "team"])
notes = st.dictionaries(NAMES, st.sampled_from(["", "1", "2"]), max_size=2)


@st.composite
def foreign_owners(draw: st.DrawFn) -> list[dict[str, Any]]:
    count = draw(st.integers(0, 2))
    controller = draw(st.sampled_from([None, *range(count)]))
    return [
        {
            "apiVersion": "example.com/v1",
            "kind": draw(st.sampled_from(["Fleet", "Node"])),
            "name": f"owner-{index}",
            "uid": f"uid-owner-{index}",
            "blockOwnerDeletion": draw(st.booleans()),
            **({"controller": True} if index == controller else {}),
        }
        for index in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Metadata of a slice written by others. `own`: the number of our owner references in it."""

    annotations: dict[str, str]
    labels: dict[str, str]
    finalizers: list[str]
    owners: list[dict[str, Any]]
    spoils_note: bool
    own: int


foreign = st.builds(
    Foreign,
    annotations=notes,
    labels=notes,
    finalizers=st.lists(NAMES, unique=True, max_size=2),
    owners=foreign_owners(),
    spoils_note=st.booleans(),
    own=st.sampled_from([0, 1, 1]),
)
decorations = st.tuples(foreign, foreign)


def decorate(server: Server, chosen: tuple[Foreign, Foreign]) -> None:
    for stored, theirs in zip(server.objects.values(), chosen, strict=False):
        metadata = stored["metadata"]
        note = "foreign" if theirs.spoils_note else metadata["annotations"].get(NOTE)
        owners = [entry for entry in metadata["ownerReferences"] if entry["name"] == OWNER.name][: theirs.own]
        if any(entry.get("controller") for entry in theirs.owners):
            # The server takes one controller only.
            owners = [{**entry, "controller": False} for entry in owners]
        metadata["annotations"] = theirs.annotations | ({NOTE: note} if note is not None else {})
        metadata["labels"] = theirs.labels
        metadata["finalizers"] = theirs.finalizers
        metadata["ownerReferences"] = [*deepcopy(theirs.owners), *owners]
    server.remember()


def foreign_part(metadata: dict[str, Any]) -> dict[str, Any]:
    own_keys = ("resourceVersion", "managedFields")
    rest = {key: value for key, value in metadata.items() if key not in own_keys and value}
    rest["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != NOTE}
    rest["ownerReferences"] = [entry for entry in metadata["ownerReferences"] if entry["name"] != OWNER.name]
    return rest


def check_foreign_metadata(before: Snapshot, after: Snapshot, chosen: tuple[Foreign, Foreign]) -> None:
    server = Server()
    server.publish(pool(before, NAMING, ServiceMode.TAINT))
    decorate(server, chosen)
    decorated = deepcopy({name: stored["metadata"] for name, stored in server.objects.items()})
    wanted = pool(after, NAMING, ServiceMode.TAINT)
    server.publish(wanted)

    assert server.publish(wanted) == 0
    for name, stored in server.objects.items():
        if "deletionTimestamp" in stored["metadata"]:
            continue
        owners = stored["metadata"]["ownerReferences"]
        assert sum(bool(entry.get("controller")) for entry in owners) <= 1
        assert sum(entry["uid"] == OWNER.uid for entry in owners) == 1
        if name in decorated:
            assert foreign_part(stored["metadata"]) == foreign_part(decorated[name])


@given(before=snapshots((1, 2, 3)), after=snapshots((1, 2, 3)), chosen=decorations)
@settings(max_examples=500, deadline=None)
def test_the_metadata_of_others_survives_every_write_and_costs_none(
    before: Snapshot, after: Snapshot, chosen: tuple[Foreign, Foreign]
) -> None:
    """Finding K2."""
    check_foreign_metadata(before, after, chosen)


@pytest.mark.long
@pytest.mark.timeout(1200)
@given(before=snapshots(), after=snapshots(), chosen=decorations)
@settings(max_examples=share(10_000), deadline=None)
def test_the_metadata_of_others_survives_ten_thousand_writes(
    before: Snapshot, after: Snapshot, chosen: tuple[Foreign, Foreign]
) -> None:
    """Finding K2."""
    check_foreign_metadata(before, after, chosen)


@given(wanted=snapshots(), chosen=decorations)
@settings(max_examples=100, deadline=None)
def test_a_wiped_slice_comes_back_with_the_labels_and_annotations_of_others(
    wanted: Snapshot, chosen: tuple[Foreign, Foreign]
) -> None:
    """Finding K2: without finalizers, which were removed before, and without references that block a deletion."""
    server, made = Server(), pool(wanted, NAMING, ServiceMode.TAINT)
    server.publish(made)
    decorate(server, chosen)
    server.publish(made)
    before = [deepcopy(stored["metadata"]) for stored in server.objects.values()]
    server.objects.clear()
    server.publish(made)
    after = [stored["metadata"] for stored in server.objects.values()]

    assert server.publish(made) == 0
    for old, new in zip(before, after, strict=True):
        assert (new["annotations"], new.get("labels", {})) == (old["annotations"], old["labels"])
        assert "finalizers" not in new
        assert not any(entry.get("blockOwnerDeletion") for entry in new["ownerReferences"])
