"""Checks 10 and 11: names of sockets fit, prefer the whole UID, are the same each time and different for different inputs."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.kubeletplugin.sockets import MAX_PATH_BYTES, PublishedSocket, SocketError, socket_paths

UID = "6f2d1f0e-9a4b-4c1d-8e2f-0123456789ab"
DRIVERS = st.text(alphabet=string.ascii_lowercase + string.digits + ".-", min_size=1, max_size=63)
UIDS = st.uuids().map(str)


def registration(driver: str, uid: str, registry: Path) -> Path:
    return socket_paths(driver, uid, Path("/d"), registry).registration


@given(driver=DRIVERS, uid=UIDS, depth=st.integers(0, 70))
def test_any_driver_and_uid_has_a_name_that_fits_and_that_the_watcher_takes(
    driver: str, uid: str, depth: int
) -> None:
    registry = Path("/" + "r" * depth)
    path = registration(driver, uid, registry)
    assert len(os.fsencode(path)) <= MAX_PATH_BYTES
    assert path.name.endswith("-reg.sock")
    assert path == registration(driver, uid, registry)
    full = registry / f"{driver}-{uid}-reg.sock"
    assert (path == full) is (len(os.fsencode(full)) <= MAX_PATH_BYTES)


@given(one=st.tuples(DRIVERS, UIDS), other=st.tuples(DRIVERS, UIDS), depth=st.sampled_from([0, 30, 60, 70]))
def test_different_instances_have_different_names_whichever_form_fits(
    one: tuple[str, str], other: tuple[str, str], depth: int
) -> None:
    registry = Path("/" + "r" * depth)
    same = one == other
    assert (registration(*one, registry) == registration(*other, registry)) is same


@pytest.mark.parametrize("spare", [0, 1])
def test_the_whole_uid_is_used_up_to_the_last_byte(spare: int) -> None:
    name = f"gpu.vitals.internal-{UID}-reg.sock"
    registry = Path("/" + "r" * (MAX_PATH_BYTES - len(name) - len("//") - spare))
    path = registration("gpu.vitals.internal", UID, registry)
    assert path.name == name
    assert len(os.fsencode(path)) == MAX_PATH_BYTES - spare
    longer = registration("gpu.vitals.internal", UID, Path(f"{registry}{'r' * (spare + 1)}"))
    assert longer.name.startswith("gpu.vitals.internal-")
    assert UID not in longer.name


def test_the_private_name_must_fit_too() -> None:
    """It is longer than `dra.sock`, and is what gRPC binds."""
    with pytest.raises(SocketError, match="longer than 107 bytes"):
        PublishedSocket(Path("/" + "d" * 97) / "dra.sock")
