"""A harness that was killed leaves a machine on which it starts again, with nothing of the old run."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cluster import Cluster
from cluster.machine import PREFIX, hierarchies, release
from support.realkube.workspace import Workspace

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]

_TESTS = Path(__file__).resolve().parent.parent
_PROGRAM = """
import sys, time
from cluster.cluster import Cluster
from cluster.objects import PODS, create, is_running, pod
with Cluster(sys.argv[1], say=print) as cluster:
    create(cluster.api, PODS, pod("left"))
    cluster.wait("the pod runs", lambda: is_running(cluster.api, "left"), seconds=30)
    print(cluster.folder, flush=True)
    time.sleep(300)
"""


def test_the_next_start_removes_what_a_killed_run_left(cluster: Cluster) -> None:
    """Its containers outlive a kill -9, and with them a network device, control groups and mounts."""
    command = [sys.executable, "-c", _PROGRAM, cluster.release]
    run = subprocess.Popen(command, cwd=_TESTS, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout:
        folder = Path(run.stdout.readline().strip())
        run.send_signal(signal.SIGKILL)
        run.wait(10)
    assert folder.name.startswith(PREFIX)
    assert _processes(folder)
    subnet = _subnet(folder)
    assert _routes(subnet)
    with Workspace(prefix=PREFIX, release=release):
        assert not folder.exists()
    assert not _processes(folder)
    assert not [group for group in hierarchies() if (group / folder.name).exists()]
    assert not _routes(subnet)
    assert cluster.api.get("/readyz").status == 200


def _processes(folder: Path) -> list[str]:
    """Those on the node: its overlays are in their mounts."""
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if f"upperdir={folder}/" in mounts.read_text(encoding="utf-8", errors="replace"):
                found.append(mounts.parent.name)
        except OSError:
            continue  # it ended meanwhile
    return found


def _routes(subnet: str) -> list[str]:
    """Routes to pods of that run, which go by its network devices."""
    answer = subprocess.run(["ip", "-o", "route"], capture_output=True, text=True, timeout=20, check=True)
    return [line for line in answer.stdout.splitlines() if subnet in line]


def _subnet(folder: Path) -> str:
    """The first three numbers of its pods' addresses."""
    text = (folder / "cni.d" / "10-pods.conflist").read_text(encoding="utf-8")
    return text.split('"subnet": "')[1].rpartition("0/24")[0]
