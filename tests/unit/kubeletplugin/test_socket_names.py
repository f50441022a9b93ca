"""Checks 10 and 11: names of sockets fit, prefer the whole UID, are the same each time and different for different inputs."""

import os
import socket
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.sockets import (
    MAX_PATH_BYTES,
    PublishedSocket,
    SocketError,
    socket_paths,
    sweep_dead,
)
from support.worlds.plugin_world import DRIVER, SystemClock, World, kubelet, uid_of

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
    """It is longer than `dra.sock`, and gRPC binds it."""
    with pytest.raises(SocketError, match="longer than 107 bytes"):
        PublishedSocket(Path("/" + "d" * 97) / "dra.sock")


@given(driver=DRIVERS.filter(lambda name: name.strip(".") != ""), uid=UIDS)
def test_every_legal_driver_has_sockets_below_the_usual_kubelet_root(driver: str, uid: str) -> None:
    """Finding P7."""
    root = Path("/var/lib/kubelet")
    paths = socket_paths(driver, uid, root / "plugins" / driver, root / "plugins_registry")
    for path in (paths.dra, paths.registration):
        assert len(os.fsencode(path)) <= MAX_PATH_BYTES
        PublishedSocket(path)


@given(one=UIDS, other=UIDS, depth=st.integers(0, 87))
def test_instances_of_a_deep_folder_have_sockets_of_their_own(one: str, other: str, depth: int) -> None:
    """Finding P7."""
    folder = Path("/" + "d" * depth)

    def dra(uid: str) -> Path:
        return socket_paths("gpu.vitals.internal", uid, folder, Path("/r")).dra

    assert len(os.fsencode(dra(one))) <= MAX_PATH_BYTES
    assert (dra(one) == dra(other)) is (one == other)
    assert (dra(one).name == f"dra-{one}.sock") is (len(f"{folder}/dra-{one}.sock") <= MAX_PATH_BYTES)


@pytest.mark.parametrize(
    ("folder", "registry", "named"),
    [
        ("/" + "d" * 88, "/r", "the state folder or the driver's name, by 1 or more"),
        ("/d", "/" + "r" * 80, "the kubelet's root folder, by 10 or more"),
    ],
)
def test_a_folder_too_deep_for_any_name_is_refused_with_the_setting_to_shorten(
    folder: str, registry: str, named: str
) -> None:
    """Finding P7."""
    with pytest.raises(SocketError) as caught:
        socket_paths("gpu.vitals.internal", UID, Path(folder), Path(registry))
    assert f"is longer than 107 bytes; shorten the directory: {named}" in str(caught.value)


def test_a_plugin_serves_at_the_deepest_folders_that_there_can_be(node: World) -> None:
    """Finding P7: as for a driver's name of 63 characters, or a kubelet root such as that of a snap."""

    def deep(size: int) -> Path:
        return node.directory / ("d" * (size - len(f"{node.directory}/")))

    settings = replace(node.settings(UID), data_directory=deep(88), registry_directory=deep(71))
    plugin = KubeletPlugin(settings, SystemClock(), node.fatal.append)
    plugin.start()
    try:
        plugin.attach(node.ports())
        plugin.probe(5.0)
        with kubelet(plugin) as calls:
            assert calls.prepare(node.allocate(1, 0))[uid_of(1)].error == ""
        assert [len(str(path)) for path in (plugin.paths.dra, plugin.paths.registration)] == [107, 107]
    finally:
        plugin.stop(1.0)
    assert sweep_dead(DRIVER, plugin.paths) == ()


def test_a_short_name_that_a_killed_instance_left_is_swept(node: World) -> None:
    data, registry = node.directory / ("d" * 70), node.directory / "registry"
    for made in (data, registry):
        made.mkdir()
    left = socket_paths(DRIVER, UID, data, registry).dra
    assert left.name.startswith("d-")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    assert sweep_dead(DRIVER, socket_paths(DRIVER, "another", data, registry)) == (left,)
