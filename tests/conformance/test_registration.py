"""Section 13.1 at the sockets of any driver: registration, order, signals, leftovers."""

import socket
import stat
import time
from pathlib import Path

import grpc
import pytest

from conformance.driver import Driver, get_info, notify, registered_endpoint, registration_socket
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals.proto import dra_v1beta1_pb2 as beta
from gpuvitals.proto.dra_v1_pb2_grpc import DRAPluginStub
from gpuvitals.proto.dra_v1beta1_pb2_grpc import DRAPluginStub as BetaStub
from support.worlds.plugin_world import channel

KNOWN = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")


def test_get_info_is_complete_and_lists_what_is_served_newest_first(driver: Driver) -> None:
    driver.start()
    info = get_info(registration_socket(driver))
    offered = list(info.supported_versions)
    assert (info.type, info.name) == ("DRAPlugin", driver.name)
    assert Path(info.endpoint).is_absolute()
    assert offered == [one for one in KNOWN if one in offered]
    assert "v1.DRAPlugin" in offered


def test_the_dra_socket_listens_before_the_registration_socket_names_it(driver: Driver) -> None:
    driver.start()
    endpoint = get_info(registration_socket(driver)).endpoint
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(endpoint)


def test_the_path_of_a_socket_fits_what_a_kernel_binds(driver: Driver) -> None:
    driver.start()
    path = registration_socket(driver)
    for each in (path, Path(get_info(path).endpoint)):
        assert len(str(each).encode()) <= 107
        assert stat.S_ISSOCK(each.stat().st_mode)


def test_an_empty_prepare_is_answered_by_every_service_that_is_offered(driver: Driver) -> None:
    driver.start()
    endpoint = registered_endpoint(driver)
    with channel(endpoint) as opened:
        v1 = DRAPluginStub(opened).NodePrepareResources(dra.NodePrepareResourcesRequest(), timeout=5)
        older = BetaStub(opened).NodePrepareResources(beta.NodePrepareResourcesRequest(), timeout=5)
    assert (dict(v1.claims), dict(older.claims)) == ({}, {})


def test_a_refused_registration_is_survived_and_a_later_one_is_taken(driver: Driver) -> None:
    driver.start()
    path = registration_socket(driver)
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            notify(path, registered=False, error="no supported service")
    notify(path, registered=True)
    assert get_info(path).name == driver.name


def test_sigterm_takes_the_own_sockets_away_quickly(driver: Driver) -> None:
    driver.start()
    endpoint = registered_endpoint(driver)
    began = time.monotonic()
    driver.stop()
    assert time.monotonic() - began < 5
    assert list(driver.registry.iterdir()) == []
    assert not endpoint.exists()


def test_a_killed_driver_starts_over_its_leftovers(driver: Driver) -> None:
    driver.start()
    endpoint = registered_endpoint(driver)
    driver.kill()
    assert endpoint.exists()
    driver.start()
    assert registered_endpoint(driver).exists()
    sockets = [path for path in driver.registry.iterdir() if not path.name.startswith(".")]
    assert len(sockets) == 1
