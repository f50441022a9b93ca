"""The agent's validation of a device agrees with the API server's."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.inventory.device import Device, Taint, TaintEffect, Version
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import SHARD, Pool, PoolSlice, pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.inventory.validation import invalid
from gpuvitals.kube.slices.codec import NodeOwner, Placement, Stored, slice_body
from gpuvitals.model.ids import DeviceName, NodeName
from gpuvitals_sim.apiserver.strategy.slices import SLICE_RULES
from support.worlds.snapshots import snapshot

OWNER = NodeOwner(name="node-a", uid="uid-of-node-a")


def made(**changes: object) -> Device:
    whole: dict[str, object] = {"name": "gpu-0", "attributes": (), "capacity": (), "taints": ()}
    return Device(**(whole | changes))  # type: ignore[arg-type]  # bad on purpose


def server_says(device: Device) -> list[str]:
    part = PoolSlice(index=0, devices=(device,), annotations=())
    planned = Pool(node=NodeName("node-a"), driver="gpu.vitals.internal", slices=(part,))
    place = Placement(generation=1, count=1)
    body = slice_body(part, planned, OWNER, place, Stored(foreign={}, times={}))
    return [f"{error.field}: {error.body}" for error in SLICE_RULES.validate_create(body)]


def taint(key: str, value: str = "Xid79") -> Taint:
    return Taint(key=key, value=value, effect=TaintEffect.NO_SCHEDULE)


@pytest.mark.parametrize(
    ("device", "named"),
    [
        pytest.param(made(name="GPU_0"), "name", id="name"),
        pytest.param(made(name="g" * 64), "name", id="long name"),
        pytest.param(made(name=""), "name", id="no name"),
        pytest.param(made(attributes=(("a-b", 1),)), "a-b", id="key"),
        pytest.param(made(attributes=(("a" * 33, 1),)), "identifier", id="long key"),
        pytest.param(made(attributes=(("Not_A_Domain/score", 1),)), "domain", id="domain"),
        pytest.param(made(attributes=(("uuid", "x" * 65),)), "65 bytes", id="long text"),
        pytest.param(made(attributes=(("uuid", "é" * 33),)), "66 bytes", id="long text in bytes"),
        pytest.param(made(attributes=(("driverVersion", Version("535.54.03")),)), "semantic", id="version"),
        pytest.param(
            made(attributes=tuple((f"k{n}", n) for n in range(33))), "33 attributes", id="many keys"
        ),
        pytest.param(made(taints=(taint("no key"),)), "no key", id="taint key"),
        pytest.param(made(taints=(taint("a/b", "no value"),)), "no value", id="taint value"),
        pytest.param(made(taints=tuple(taint(f"a/k{n}") for n in range(17))), "17 taints", id="many taints"),
    ],
)
def test_a_device_that_the_server_refuses_is_refused_before_it_is_sent(device: Device, named: str) -> None:
    """Finding R1."""
    assert server_says(device) != []
    assert named in invalid(device)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(made(attributes=(("minor", 2**63),)), id="a number of more than 64 bits"),
        pytest.param(made(attributes=(("uuid", "\ud800"),)), id="text that UTF-8 can't carry"),
        pytest.param(made(capacity=(("memory", "much"),)), id="no quantity"),
    ],
)
def test_a_device_that_no_decoder_takes_is_refused_before_it_is_sent(device: Device) -> None:
    """Finding R1: these end before the server's rules are asked, at the encoder or the decoder."""
    assert invalid(device)


texts = st.one_of(st.text(max_size=70), st.from_regex(r"[a-z0-9./_-]{0,70}", fullmatch=True))
values = st.one_of(st.booleans(), st.integers(), texts, st.builds(Version, texts))
devices = st.builds(
    made,
    name=texts.map(DeviceName),
    attributes=st.lists(st.tuples(texts, values), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
    taints=st.lists(st.builds(taint, texts, texts), max_size=2, unique_by=lambda each: each.key).map(tuple),
)


@settings(max_examples=500, deadline=None)
@given(devices)
def test_the_server_takes_whatever_the_agent_takes_for_valid(device: Device) -> None:
    """Finding R1."""
    if not invalid(device):
        assert server_says(device) == []


@pytest.mark.parametrize("mode", list(ServiceMode))
def test_two_gpus_of_one_name_are_published_as_one_and_told(mode: ServiceMode) -> None:
    """Finding R1: the last line of defence, whatever the memory holds."""
    whole = snapshot(3)
    twice = (*whole.gpus, whole.gpus[1])
    planned = pool(replace(whole, gpus=twice), Naming(), mode)

    assert [len(part.devices) for part in planned.slices] == [3]
    assert [str(each) for each in planned.left_out] == [
        "device gpu-0000-01-00-0 is not published: another device of the pool has the same name"
    ]
    assert "leftOut" in dict(planned.slices[0].annotations)["vitals.internal/node-report"]
    assert len(planned.slices[0].devices) <= SHARD
