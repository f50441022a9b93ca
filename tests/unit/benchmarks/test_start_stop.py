"""B10: the agent's start is compared with that of a bare Python process, which a kubelet can register."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from benchmarks import start_stop
from benchmarks.harness.figures import is_failure

from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub

PROGRAM = Path(start_stop.__file__).parent / "harness" / "bare_plugin.py"


@pytest.fixture
def socket() -> Iterator[Path]:
    """A socket's path has at most 107 bytes, and pytest's own folders are longer."""
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as folder:
        yield Path(folder) / "bare-reg.sock"


def test_the_bare_process_answers_the_two_calls_of_a_registration(socket: Path) -> None:
    process = subprocess.Popen([sys.executable, "-P", str(PROGRAM), str(socket), "bare.vitals.internal"])
    options = [("grpc.default_authority", "localhost"), ("grpc.initial_reconnect_backoff_ms", 20)]
    try:
        with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
            stub = RegistrationStub(channel)
            info = stub.GetInfo(registration.InfoRequest(), timeout=20, wait_for_ready=True)
            stub.NotifyRegistrationStatus(registration.RegistrationStatus(plugin_registered=True), timeout=10)
    finally:
        process.kill()
        process.wait(10)

    assert (info.type, info.name, info.endpoint) == ("DRAPlugin", "bare.vitals.internal", str(socket))


@pytest.mark.parametrize(("answered", "fails"), [(290.0, False), (310.0, True)])
def test_the_start_may_take_one_and_a_half_times_that_of_the_bare_process(
    answered: float, fails: bool
) -> None:
    figures = start_stop.figures([(answered, 600.0, 600.0)], [(17.0, 1000.0, 7.0)], [200.0])

    assert is_failure(figures) is fails
    assert [len(figure.targets) for figure in figures] == [1, 0, 1, 1]
