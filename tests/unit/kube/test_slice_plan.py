"""The planner: the smallest writes, and a pool that is true after them."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.inventory.device import Device, Taint, TaintEffect
from gpuvitals.inventory.pool import Pool, PoolSlice
from gpuvitals.kube.slices.codec import ObservedSlice, generate_name, observed_slice
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.slices.plan import PlanContext, SliceWrite, plan
from gpuvitals.model.ids import DeviceName, NodeName

OWNER = NodeOwner(name="node-a", uid="node-uid")
NEW = PlanContext(generation=0, taint_times={})
NOTE = "vitals.internal/node-report"


def device(name: str, score: int = 100, *, tainted: bool = False) -> Device:
    taints = (Taint(key="d/unhealthy", value="Xid79", effect=TaintEffect.NO_SCHEDULE),) if tainted else ()
    return Device(
        name=DeviceName(name),
        attributes=(("health/score", score),),
        capacity=(("memory", "80Gi"),),
        taints=taints,
    )


def pool_of(*slices: tuple[Device, ...]) -> Pool:
    listed = tuple(
        PoolSlice(index=index, devices=devices, annotations=((NOTE, "{}"),) if index == 0 else ())
        for index, devices in enumerate(slices)
    )
    return Pool(node=NodeName("node-a"), driver="gpu.vitals.internal", slices=listed)


class Stored:
    """A server that stores each write, with names and versions of its own."""

    def __init__(self) -> None:
        self.slices: dict[str, ObservedSlice] = {}
        self.bodies: dict[str, bytes] = {}
        self.version = 0

    def apply(self, writes: tuple[SliceWrite, ...]) -> None:
        for write in writes:
            if write.body is None:
                assert write.target is not None
                del self.slices[write.target.name]
                continue
            body = msgspec.json.decode(write.body)
            self.version += 1
            meta = body["metadata"]
            meta.setdefault("name", meta.pop("generateName", "") + f"{self.version:05d}")
            meta["resourceVersion"] = str(self.version)
            for entry in body["spec"]["devices"]:
                for taint in entry.get("taints", []):
                    taint.setdefault("timeAdded", f"t{self.version}")
            self.bodies[meta["name"]] = msgspec.json.encode(body)
            self.slices[meta["name"]] = observed_slice(self.bodies[meta["name"]], NOTE)

    @property
    def observed(self) -> list[ObservedSlice]:
        return list(self.slices.values())


def test_the_first_publication_creates_and_the_second_writes_nothing() -> None:
    server, desired = Stored(), pool_of((device("a"), device("b")))
    first = plan(desired, OWNER, server.observed, NEW)
    server.apply(first)

    assert len(first) == 1
    assert first[0].target is None
    assert plan(desired, OWNER, server.observed, NEW) == ()


def test_one_changed_device_is_one_put_of_the_same_generation() -> None:
    server = Stored()
    server.apply(plan(pool_of((device("a"), device("b"))), OWNER, [], NEW))
    generation = server.observed[0].placement.generation
    writes = plan(pool_of((device("a", 0, tainted=True), device("b"))), OWNER, server.observed, NEW)

    assert len(writes) == 1
    assert writes[0].body is not None
    spec = msgspec.json.decode(writes[0].body)["spec"]
    assert spec["pool"]["generation"] == generation
    assert msgspec.json.encode(device_json("b")) in writes[0].body


def device_json(name: str) -> dict[str, object]:
    return {
        "attributes": {"health/score": {"int": 100}},
        "capacity": {"memory": {"value": "80Gi"}},
        "name": name,
    }


def test_a_taint_keeps_its_time_through_another_devices_change_and_through_a_wipe() -> None:
    server = Stored()
    tainted = pool_of((device("a", 0, tainted=True), device("b")))
    server.apply(plan(tainted, OWNER, [], NEW))
    times = dict(server.observed[0].taint_times)
    server.apply(plan(pool_of((device("a", 0, tainted=True), device("b", 95))), OWNER, server.observed, NEW))

    assert dict(server.observed[0].taint_times) == times
    wiped = plan(tainted, OWNER, [], PlanContext(generation=1, taint_times=times))
    assert wiped[0].body is not None
    assert b'"timeAdded":"t1"' in wiped[0].body


def test_two_changed_slices_are_a_new_generation_of_all() -> None:
    server = Stored()
    server.apply(plan(pool_of((device("a"),), (device("b"),), (device("c"),)), OWNER, [], NEW))
    writes = plan(pool_of((device("a", 1),), (device("b", 1),), (device("c"),)), OWNER, server.observed, NEW)
    server.apply(writes)

    assert len(writes) == 3
    assert {entry.placement.generation for entry in server.observed} == {2}


def test_a_node_created_anew_gets_its_owner_reference_mended() -> None:
    server, desired = Stored(), pool_of((device("a"),))
    server.apply(plan(desired, OWNER, [], NEW))

    assert len(plan(desired, NodeOwner(name="node-a", uid="another"), server.observed, NEW)) == 1


def test_the_index_survives_in_the_longest_name() -> None:
    long = replace(pool_of(()), node=NodeName("n" * 253), driver="d" * 63)

    name = generate_name(10, long)
    assert name.startswith("0000a-d")
    assert len(name) <= 58


_POOLS = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.booleans()),
        max_size=3,
        unique_by=lambda entry: entry[0],
    ),
    min_size=1,
    max_size=4,
).map(
    lambda shards: pool_of(
        *(
            tuple(device(f"{index}{name}", score, tainted=taint) for name, score, taint in shard)
            for index, shard in enumerate(shards)
        )
    )
)


def history(server: Stored, data: st.DataObject) -> None:
    """Foreign changes of the pool: wipes, single deletes, edits, copies, leftovers under other names."""
    match data.draw(st.sampled_from(["nothing", "wipe", "delete", "edit", "copy", "odd name", "other pool"])):
        case "wipe":
            server.slices.clear()
        case "delete" if server.slices:
            del server.slices[data.draw(st.sampled_from(sorted(server.slices)))]
        case "edit" if server.slices:
            name = data.draw(st.sampled_from(sorted(server.slices)))
            server.slices[name] = replace(server.slices[name], content=b"edited")
        case "copy" if server.slices:
            victim = server.slices[data.draw(st.sampled_from(sorted(server.slices)))]
            place = replace(
                victim.placement, generation=victim.placement.generation + data.draw(st.integers(-1, 2))
            )
            name = victim.name + data.draw(st.sampled_from("az"))
            server.slices[name] = replace(victim, name=name, placement=place)
        case "odd name" if server.slices:
            server.slices["foreign"] = replace(server.observed[0], name="foreign", index=None)
        case "other pool" if server.slices:
            server.slices["other"] = replace(server.observed[0], name="other", pool="else")


@given(st.lists(_POOLS, min_size=1, max_size=5), st.data())
def test_any_history_converges_and_the_generation_never_falls(pools: list[Pool], data: st.DataObject) -> None:
    """Whatever others did: one plan later the pool is true, and a second plan is empty."""
    server, generation = Stored(), 0
    for desired in pools:
        history(server, data)
        known = PlanContext(generation=generation, taint_times={})
        before = max([generation, *(entry.placement.generation for entry in server.observed)])
        server.apply(plan(desired, OWNER, server.observed, known))
        assert plan(desired, OWNER, server.observed, known) == ()
        assert {entry.index for entry in server.observed} == {entry.index for entry in desired.slices}
        assert len(server.slices) == len(desired.slices)
        placements = {entry.placement for entry in server.observed}
        assert len(placements) == 1
        generation = placements.pop().generation
        assert generation >= max(1, before)


@given(_POOLS, st.data())
def test_one_changed_device_is_exactly_one_put_and_siblings_keep_their_bytes(
    desired: Pool, data: st.DataObject
) -> None:
    full = [entry for entry in desired.slices if entry.devices]
    if not full:
        return
    server = Stored()
    server.apply(plan(desired, OWNER, [], NEW))
    entry = data.draw(st.sampled_from(full))
    place = data.draw(st.integers(0, len(entry.devices) - 1))
    victim = entry.devices[place]
    devices = (*entry.devices[:place], device(victim.name, 77, tainted=True), *entry.devices[place + 1 :])
    slices = tuple(replace(each, devices=devices) if each is entry else each for each in desired.slices)
    times = {key: at for each in server.observed for key, at in each.taint_times.items()}
    before = {each.name: each for each in server.observed}
    writes = plan(
        replace(desired, slices=slices), OWNER, server.observed, PlanContext(generation=1, taint_times=times)
    )

    assert len(writes) == 1
    assert writes[0].kind == "update"
    assert writes[0].target is not None
    assert writes[0].body is not None
    body = msgspec.json.decode(writes[0].body)
    target = before[writes[0].target.name]
    assert body["spec"]["pool"]["generation"] == target.placement.generation
    sent = [msgspec.json.encode(each, order="deterministic") for each in body["spec"]["devices"]]
    kept = [json for index, json in enumerate(sent) if index != place]
    stored = msgspec.json.encode(
        [
            each
            for index, each in enumerate(msgspec.json.decode(server.bodies[target.name])["spec"]["devices"])
            if index != place
        ],
        order="deterministic",
    )
    assert b"[" + b",".join(kept) + b"]" == stored


def test_wiped_slices_come_back_with_their_generation_and_no_other_write() -> None:
    server, desired = Stored(), pool_of((device("a"),), (device("b"),), (device("c"),))
    server.apply(plan(desired, OWNER, [], NEW))
    survivor = server.observed[1]
    server.slices = {survivor.name: survivor}
    writes = plan(desired, OWNER, server.observed, NEW)

    assert [write.kind for write in writes] == ["create", "create"]
    server.apply(writes)
    assert {entry.placement.generation for entry in server.observed} == {1}


def test_of_two_copies_the_newest_generation_stays_in_any_list_order() -> None:
    server, desired = Stored(), pool_of((device("a"),))
    server.apply(plan(desired, OWNER, [], PlanContext(generation=4, taint_times={})))
    (current,) = server.observed
    stale = replace(current, name="00000-aa", placement=replace(current.placement, generation=3))
    for listed in ([stale, current], [current, stale]):
        (write,) = plan(desired, OWNER, listed, NEW)
        assert (write.kind, write.target and write.target.name) == ("delete", "00000-aa")


def test_a_leftover_copy_is_deleted_and_nothing_else_is_written() -> None:
    server, desired = Stored(), pool_of((device("a"),), (device("b"),))
    server.apply(plan(desired, OWNER, [], NEW))
    original = server.observed[0]
    server.slices["00000-zz"] = replace(original, name="00000-zz")
    writes = plan(desired, OWNER, server.observed, NEW)

    assert [(write.kind, write.target and write.target.name) for write in writes] == [("delete", "00000-zz")]


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (3, 4, ["update", "update", "update", "create"]),
        (3, 2, ["delete", "update", "update"]),
        (1, 2, ["update", "create"]),
    ],
)
def test_a_slice_more_or_less_is_a_new_generation_with_obsolete_ones_deleted_first(
    before: int, after: int, kinds: list[str]
) -> None:
    server = Stored()
    server.apply(plan(pool_of(*((device(f"d{index}"),) for index in range(before))), OWNER, [], NEW))
    writes = plan(pool_of(*((device(f"d{index}"),) for index in range(after))), OWNER, server.observed, NEW)

    assert [write.kind for write in writes] == kinds
    server.apply(writes)
    assert {entry.placement.generation for entry in server.observed} == {2}


def test_what_the_server_makes_of_a_slice_for_good_is_not_written_again() -> None:
    server, desired = Stored(), pool_of((device("a"),))
    writes = plan(desired, OWNER, [], NEW)
    server.apply(writes)
    name = server.observed[0].name
    server.slices[name] = replace(server.slices[name], content=b"altered")
    known = PlanContext(generation=1, taint_times={}, accepted={writes[0].content: b"altered"})

    assert plan(desired, OWNER, server.observed, known) == ()
    assert len(plan(desired, OWNER, server.observed, NEW)) == 1


def test_a_foreign_field_in_the_spec_is_seen() -> None:
    server, desired = Stored(), pool_of((device("a"),))
    server.apply(plan(desired, OWNER, [], NEW))
    name = server.observed[0].name
    body = msgspec.json.decode(server.bodies[name])
    body["spec"]["skipNodeOperations"] = ["*"]
    server.slices[name] = observed_slice(msgspec.json.encode(body), NOTE)

    assert [write.kind for write in plan(desired, OWNER, server.observed, NEW)] == ["update"]
