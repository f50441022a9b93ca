"""Evidence in a stored claim: the time of its allocation, and the GPU of its preparation."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.kube.claim_evidence import ManagedFields, StatusDevice, allocated_by, prepared_before

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALLOCATES = {"f:status": {"f:allocation": {"f:devices": {}}}}


def managed(time: str | None, fields: object, subresource: str = "status") -> ManagedFields:
    return ManagedFields(subresource=subresource, time=time, fields=msgspec.Raw(json.dumps(fields).encode()))


def status(data: object, driver: str = "gpu.vitals.internal") -> StatusDevice:
    raw = msgspec.Raw(json.dumps(data).encode())
    return StatusDevice(driver=driver, pool="node-a", device="gpu-0000-05-00-0", data=raw)


@pytest.mark.parametrize(
    ("timestamp", "entries", "expected"),
    [
        pytest.param("2026-03-01T12:00:00Z", (), NOON, id="the allocation's own timestamp"),
        pytest.param(
            None, (managed("2026-03-01T12:00:00Z", ALLOCATES),), NOON, id="the manager of the fields"
        ),
        pytest.param(
            None,
            (managed("2026-03-01T11:00:00Z", ALLOCATES), managed("2026-03-01T12:00:00Z", ALLOCATES)),
            NOON,
            id="the last of two managers",
        ),
        pytest.param(
            None, (managed("2026-03-01T12:00:00Z", {"f:status": {"f:devices": {}}}),), None, id="other fields"
        ),
        pytest.param(None, (managed("2026-03-01T12:00:00Z", ALLOCATES, ""),), None, id="not by the status"),
        pytest.param(
            "yesterday", (managed("noon", ALLOCATES), managed(None, ALLOCATES)), None, id="no times"
        ),
        pytest.param("2026-03-01T12:00:00", (), None, id="no time zone"),
        pytest.param(None, (managed("2026-03-01T12:00:00Z", [1]),), None, id="fields that are none"),
    ],
)
def test_when_a_claim_was_allocated(
    timestamp: str | None, entries: tuple[ManagedFields, ...], expected: datetime | None
) -> None:
    """Finding R1."""
    assert allocated_by(timestamp, entries) == expected


@pytest.mark.parametrize(
    ("data", "uuids"),
    [
        pytest.param({"uuid": "GPU-1", "score": 100}, ["GPU-1"], id="a GPU"),
        pytest.param({"uuid": "MIG-1", "parentUUID": "GPU-1"}, ["GPU-1"], id="an instance"),
        pytest.param({"uuid": "MIG-1"}, [], id="an instance of an unknown board"),
        pytest.param({"mac": "aa"}, [], id="no GPU"),
        pytest.param({"uuid": 7}, [], id="a number"),
        pytest.param([1, 2], [], id="a list"),
        pytest.param(None, [], id="nothing"),
    ],
)
def test_on_which_gpu_a_device_was_prepared(data: object, uuids: list[str]) -> None:
    """Finding R1."""
    assert [each.gpu_uuid for each in prepared_before([status(data)])] == uuids


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(st.none(), st.text(max_size=40)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["uuid", "f:status", "x"]), inner)
        ),
        max_leaves=6,
    ),
)
def test_no_claim_fails_for_what_it_says_of_its_past(text: str | None, data: object) -> None:
    """Finding R1: anybody who may write the claim can write this text."""
    allocated_by(text, [managed(text, data)])
    prepared_before([status(data)])
