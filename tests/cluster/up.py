"""A cluster to play with: `make cluster-up` and `make cluster-down`.

A keeper process holds the cluster in the background, exactly as a test holds its own, so it is cleared up in the same
way, also after a kill. What the keeper made is written to `.cache/cluster/up-<release>.json` for the one who comes next.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.agent import Agent
from cluster.build import CACHE, BuildError, locate
from cluster.cluster import NODE, RELEASES, Cluster
from cluster.debian import PackageError
from cluster.images import BUSYBOX
from cluster.machine import PREFIX, MachineError, release
from cluster.objects import CLASSES, create, device_class
from support.realkube.server import ServerError
from support.realkube.workspace import Workspace

UP_SECONDS = 240.0
DOWN_SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Starts and stops a real cluster of one node.")
    parser.add_argument("verb", choices=["up", "down", "keep"])
    parser.add_argument("--release", choices=RELEASES, help="default: 1.37; with down: every one")
    parser.add_argument("--gpus", type=int, default=0, help="run the agent there too, with scripted GPUs")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "down":
            return _down([given.release] if given.release else RELEASES)
        if given.verb == "keep":
            return _keep(given.release or "1.37", given.gpus)
        return _up(given.release or "1.37", given.gpus)
    except (BuildError, PackageError, MachineError, ServerError) as error:
        _say(f"error: {error}")
        return 1


def _up(name: str, gpus: int) -> int:
    if (found := _running(name)) is not None:
        _say(f"Kubernetes {name} is up already; `make cluster-down` ends it")
        return _tell(found)
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"up-{name}.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "cluster.up", "keep", "--release", name, "--gpus", str(gpus)]
        keeper = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_SECONDS
    while (found := _running(name)) is None:
        if keeper.poll() is not None or time.monotonic() > deadline:
            keeper.terminate()
            _say(f"{log.read_text(encoding='utf-8', errors='replace')[-4000:]}")
            _say(f"error: Kubernetes {name} did not start; the whole text is in {log}")
            return 1
        time.sleep(0.1)
    return _tell(found)


def _keep(name: str, gpus: int) -> int:
    """Holds the cluster until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    record = _record(name)
    with Cluster(name, say=_say) as cluster:
        create(cluster.api, CLASSES, device_class())
        if gpus:
            Agent(cluster, gpus=gpus, policy={}, name=NODE).start()
        facts = {
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "release": name,
            "folder": str(cluster.folder),
            "enter": cluster.machine.enter(["sh"]),
            "gpus": gpus,
        }
        partial = record.with_suffix(".partial")
        partial.write_text(json.dumps(facts), encoding="utf-8")
        partial.replace(record)
        try:
            while not stop.wait(60):
                pass
        finally:
            record.unlink(missing_ok=True)
    return 0


def _down(names: Sequence[str]) -> int:
    found = [facts for name in names if (facts := _running(name)) is not None]
    for facts in found:
        _end(facts)
        _say(f"Kubernetes {facts['release']} is down")
    # Opening a workspace clears up after keepers and tests that were killed.
    for name in names:
        _record(name).unlink(missing_ok=True)
    with Workspace(prefix=PREFIX, release=release):
        pass
    if not found:
        _say("no cluster was up")
    return 0


def _end(facts: dict[str, Any]) -> None:
    os.kill(facts["pid"], signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while _started(facts["pid"]) == facts["started"]:
        if time.monotonic() > deadline:
            os.kill(facts["pid"], signal.SIGKILL)
            break
        time.sleep(0.1)


def _tell(facts: dict[str, Any]) -> int:
    kubectl, folder = locate("kubernetes-1.37", "kubectl"), facts["folder"]
    lines = [
        f"Kubernetes {facts['release']} is up: one node, {NODE}, that runs pods.",
        "",
        f"  export KUBECONFIG={folder}/kubeconfig",
        f"  alias kubectl={kubectl}",
        "  kubectl get nodes",
        f"  kubectl run hello --image={BUSYBOX} --image-pull-policy=Never --command -- sleep 3600",
        "",
        f"Its one image is {BUSYBOX}; the device class gpu.vitals.internal is there.",
        f"Logs are {folder}/*.log. On the node: {' '.join(facts['enter'])}",
    ]
    if facts["gpus"]:
        inject = f"gpuvitals inject --demo {folder} xid --node {NODE} --gpu 0 --code 79"
        lines += [
            f"The agent runs with {facts['gpus']} scripted GPUs:",
            "",
            "  gpuvitals status",
            f"  {inject}",
        ]
    else:
        lines += ["With GPUS=4 the agent runs there too, with scripted GPUs."]
    _say("\n".join([*lines, "", "It stays until: make cluster-down"]))
    return 0


def _running(name: str) -> dict[str, Any] | None:
    """What the keeper wrote, if it is still that process."""
    with contextlib.suppress(FileNotFoundError):
        facts: dict[str, Any] = json.loads(_record(name).read_text(encoding="utf-8"))
        if _started(facts["pid"]) == facts["started"]:
            return facts
    return None


def _record(name: str) -> Path:
    return CACHE / f"up-{name}.json"


def _started(pid: int) -> str:
    """When the process was started, in the kernel's ticks; empty where there is none, or only its corpse."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
