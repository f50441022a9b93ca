"""Sockets and registration: names, order, ownership, and interference by other processes."""

import os
import socket
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import grpc
import pytest

from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.publisher_lock import InstanceRunningError
from gpuvitals.kubeletplugin.self_probe import ProbeError
from gpuvitals.kubeletplugin.sockets import MAX_PATH_BYTES, SocketError, socket_paths
from gpuvitals.proto import dra_health_v1_pb2 as health
from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub
from support.waiting import eventually
from support.worlds.plugin_world import DRIVER, FAST, World, channel, kubelet, uid_of

POD_UID = "6f2d1f0e-9a4b-4c1d-8e2f-0123456789ab"
REGISTRY = Path("/var/lib/kubelet/plugins_registry")
DATA = Path("/var/lib/kubelet/plugins/gpu.vitals.internal")


def info(path: Path) -> registration.PluginInfo:
    with channel(path) as opened:
        return RegistrationStub(opened).GetInfo(registration.InfoRequest(), timeout=5)


def notify(path: Path, registered: bool, error: str = "") -> None:
    with channel(path) as opened:
        status = registration.RegistrationStatus(plugin_registered=registered, error=error)
        RegistrationStub(opened).NotifyRegistrationStatus(status, timeout=5)


def test_get_info_names_the_endpoint_and_the_newest_services_first(node: World) -> None:
    with node.running() as plugin:
        answer = info(plugin.paths.registration)
    assert (answer.type, answer.name, answer.endpoint) == ("DRAPlugin", DRIVER, str(plugin.paths.dra))
    assert list(answer.supported_versions) == [
        "v1.DRAPlugin",
        "v1beta1.DRAPlugin",
        "v1.DRAResourceHealth",
        "v1alpha1.DRAResourceHealth",
    ]


def test_fixed_names_without_a_pod_uid_and_own_names_with_one() -> None:
    fixed = socket_paths(DRIVER, "", DATA, REGISTRY)
    assert (fixed.dra.name, fixed.registration.name) == ("dra.sock", f"{DRIVER}-reg.sock")
    own = socket_paths(DRIVER, POD_UID, DATA, REGISTRY)
    assert own.dra == DATA / f"dra-{POD_UID}.sock"
    assert own.registration == REGISTRY / f"{DRIVER}-{POD_UID}-reg.sock"


def test_long_registration_names_fall_back_to_hashes_that_fit_and_differ() -> None:
    for driver, start in (("d" * 40, f"{'d' * 40}-"), ("d" * 63, "dra-")):
        first = socket_paths(driver, POD_UID, Path("/d"), REGISTRY).registration
        other = socket_paths(driver, POD_UID[:-1] + "c", Path("/d"), REGISTRY).registration
        assert first.name.startswith(start)
        assert first.name.endswith("-reg.sock")
        assert len(os.fsencode(first)) <= MAX_PATH_BYTES
        assert first != other
        assert first == socket_paths(driver, POD_UID, Path("/d"), REGISTRY).registration


def test_directory_that_leaves_no_room_is_refused_by_name() -> None:
    with pytest.raises(SocketError, match="longer than 107 bytes"):
        socket_paths(DRIVER, POD_UID, Path("/" + "d" * 88), REGISTRY)
    with pytest.raises(SocketError, match="longer than 107 bytes"):
        socket_paths(DRIVER, POD_UID, Path("/d"), Path("/" + "r" * 90))


def test_only_root_enters_the_data_directory_and_its_sockets(node: World) -> None:
    (node.directory / "data").mkdir(mode=0o755)
    with node.running() as plugin:
        assert stat.S_IMODE((node.directory / "data").stat().st_mode) == 0o700
        for path in (plugin.paths.dra, plugin.paths.registration):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_both_sockets_are_gone_after_stop_and_nothing_else_is(node: World) -> None:
    with node.running() as plugin:
        assert plugin.paths.dra.is_socket()
        assert plugin.paths.registration.is_socket()
    assert list((node.directory / "registry").iterdir()) == []
    assert not [path for path in (node.directory / "data").iterdir() if path.is_socket()]
    assert node.fatal == []


def test_second_instance_with_fixed_names_refuses_to_start(node: World) -> None:
    """And so does one with a pod UID beside one without."""
    with node.running() as plugin:
        for pod_uid in ("", POD_UID):
            second = node.plugin(pod_uid)
            with pytest.raises(InstanceRunningError, match="held by another instance"):
                second.start()
        assert info(plugin.paths.registration).name == DRIVER


def test_two_instances_with_pod_uids_serve_side_by_side(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running("pod-a") as first, node.running("pod-b") as second:
        assert info(first.paths.registration).endpoint != info(second.paths.registration).endpoint
        with kubelet(first) as calls:
            answer = calls.prepare(claim)
        with kubelet(second) as calls:
            assert calls.prepare(claim) == answer
            refused = calls.prepare(node.allocate(2, 0), timeout=0.6)[uid_of(2)].error
            assert refused.startswith("DeviceInUse: ")
            assert calls.unprepare(claim) == {uid_of(1): ""}
        eventually(lambda: first.prepared() == ())
    assert node.cdi_files() == []


def test_killed_instances_sockets_are_removed_and_rebound(node: World) -> None:
    program = f"""
import os, sys
sys.path[:0] = ["tests"]
from pathlib import Path
from support.worlds.plugin_world import World
node = World(Path({str(node.directory)!r}) / "x")
node.directory = Path({str(node.directory)!r})
for pod_uid in sys.argv[1:]:
    node.plugin(pod_uid).start()
print("up", flush=True)
os.kill(os.getpid(), 9)
"""
    (node.directory / "x").mkdir()
    with Popen(
        [sys.executable, "-c", program, POD_UID, POD_UID[:-1] + "c"], stdout=PIPE, text=True
    ) as process:
        assert process.communicate(timeout=30)[0] == "up\n"
    assert len(list((node.directory / "registry").glob("*-reg.sock"))) == 2
    with node.running(POD_UID) as plugin:
        assert info(plugin.paths.registration).name == DRIVER
        assert list((node.directory / "registry").glob("*-reg.sock")) == [plugin.paths.registration]
        assert list((node.directory / "data").glob("dra-*.sock")) == [plugin.paths.dra]


def test_socket_name_that_was_removed_or_taken_comes_back(node: World) -> None:
    with node.running() as plugin:
        plugin.paths.registration.unlink()
        eventually(plugin.paths.registration.exists)
        assert info(plugin.paths.registration).name == DRIVER
        with socket.socket(socket.AF_UNIX) as thief:
            plugin.paths.dra.unlink()
            thief.bind(str(plugin.paths.dra))
            eventually(lambda: _probes(plugin))


def test_stop_leaves_a_successors_socket_alone(node: World) -> None:
    """Same name, other inode: a socket bound since belongs to another process."""
    with socket.socket(socket.AF_UNIX) as successor:
        # the watch would put the own name back within a moment
        with node.running(limits=replace(FAST, watch_seconds=30.0)) as plugin:
            plugin.paths.dra.unlink()
            successor.bind(str(plugin.paths.dra))
        assert plugin.paths.dra.is_socket()


def test_lost_registration_directory_reaches_the_fatal_handler(node: World) -> None:
    with node.running() as plugin:
        for path in (node.directory / "registry").iterdir():
            path.unlink()
        (node.directory / "registry").rmdir()
        eventually(lambda: node.fatal)
        assert str(plugin.paths.registration) in node.fatal[0]


def test_directory_that_cannot_be_made_is_an_error_at_start(node: World) -> None:
    (node.directory / "registry").write_text("a file")
    plugin = node.plugin()
    with pytest.raises(SocketError, match="registry"):
        plugin.start()


def test_refused_registration_is_an_rpc_error_an_event_and_survived(node: World) -> None:
    with node.running() as plugin:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                notify(plugin.paths.registration, False, "no supported services")
            assert "no supported services" in (caught.value.details() or "")
        assert node.events.reasons() == ["RegistrationRefused"]
        assert not plugin.kubelet_connected()
        notify(plugin.paths.registration, True)
        assert plugin.kubelet_connected()


def test_kubelet_counts_as_connected_while_its_stream_is_open_or_was_so_recently(node: World) -> None:
    changes: list[bool] = []
    with node.running() as plugin:

        class Listener:
            def prepared_changed(self) -> None:
                pass

            def kubelet_changed(self) -> None:
                changes.append(plugin.kubelet_connected())

        plugin.subscribe(Listener())
        assert not plugin.kubelet_connected()
        notify(plugin.paths.registration, True)
        assert plugin.kubelet_connected()
        with channel(plugin.paths.dra) as opened:
            stream = DRAResourceHealthStub(opened).NodeWatchResources(
                health.NodeWatchResourcesRequest(), timeout=20
            )
            next(stream)
            stream.cancel()
        assert plugin.kubelet_connected()
        eventually(lambda: not plugin.kubelet_connected())
        notify(plugin.paths.registration, True)
        assert plugin.kubelet_connected()
        assert True in changes


def test_call_in_flight_is_finished_at_stop(node: World) -> None:
    node.claims.gate = threading.Event()
    claim = node.allocate(1, 0)
    plugin = node.plugin()
    plugin.start()
    plugin.attach(node.ports())
    with kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads == 1)
        threading.Timer(0.2, node.claims.gate.set).start()
        plugin.stop(3.0)
        assert answer.result(5)[uid_of(1)].error == ""
    assert len(node.cdi_files()) == 1


def test_call_that_waits_for_the_api_server_is_refused_at_stop(node: World) -> None:
    node.claims.fail = "server away"
    claim = node.allocate(1, 0)
    plugin = node.plugin()
    plugin.start()
    plugin.attach(node.ports())
    with kubelet(plugin) as calls, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(calls.prepare, claim)
        eventually(lambda: node.claims.reads == 1)
        started = time.monotonic()
        plugin.stop(3.0)
        assert time.monotonic() - started < 1.0
        assert answer.result(5)[uid_of(1)].error.startswith("Stopping: ")


def test_get_info_is_answered_within_300_ms_of_exec_on_a_quiet_machine(node: World) -> None:
    """B10, with room for a busy test machine: the strict measure is that no heavy package is imported."""
    program = f"""
import sys
sys.path[:0] = ["tests"]
from pathlib import Path
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.settings import PluginSettings
from gpuvitals.model.clock import Moment
import time, datetime
class Clock:
    def now(self): return Moment(at=time.monotonic(), time=datetime.datetime.now(datetime.UTC))
root = Path({str(node.directory)!r})
plugin = KubeletPlugin(PluginSettings(node="n", data_directory=root / "data", registry_directory=root / "registry",
                       cdi_directory=root / "cdi", boot_id_file=root / "boot_id"), Clock(), print)
plugin.start()
print("up", flush=True)
sys.stdin.read()
plugin.stop(1.0)
print(sorted({{"kubernetes", "pydantic", "prometheus_client", "msgspec", "yaml"}} & set(sys.modules)))
"""
    started = time.monotonic()
    with Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert info(node.directory / f"registry/{DRIVER}-reg.sock").name == DRIVER
        assert time.monotonic() - started < 5.0
        assert process.communicate("", timeout=20)[0] == "[]\n"


def _probes(plugin: KubeletPlugin) -> bool:
    try:
        plugin.probe(1.0)
    except ProbeError:
        return False
    return True
