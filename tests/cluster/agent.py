"""The node agent as a process on the cluster's node, with scripted GPUs and the rights that its chart gives it.

Its account is a service account whose token is bound to the node, as a DaemonSet pod's is. The files of the fake driver
are real enough for a real runtime: device nodes are character devices (with the numbers of /dev/null).
"""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cluster.cluster import NODE, Cluster
from cluster.devicenodes import make_device_nodes
from cluster.objects import DRIVER, Json, create
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode

_ACCOUNT = "gpuvitals-host-agent"
"""Not the chart's name: helm takes over nothing that it didn't make."""
_STATE = Path("/var/lib/kubelet/plugins/gpu.vitals.internal")
_GROUP = "resource.k8s.io"
_RULES: list[Json] = [
    {
        "apiGroups": [_GROUP],
        "resources": ["resourceslices"],
        "verbs": ["list", "watch", "create", "update", "delete"],
    },
    {"apiGroups": [_GROUP], "resources": ["resourceclaims"], "verbs": ["get"]},
    {"apiGroups": [_GROUP], "resources": ["resourceclaims/status"], "verbs": ["patch"]},
    {
        "apiGroups": [_GROUP],
        "resources": ["resourceclaims/driver"],
        "resourceNames": [DRIVER],
        "verbs": ["associated-node:patch"],
    },
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
    {"apiGroups": ["vitals.internal"], "resources": ["gpuhealthpolicies"], "verbs": ["list", "watch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
]
"""Those of the chart's ClusterRole."""


class Agent:
    """`gpuvitals node` and its GPUs. Each agent has its own GPUs, state folder and pod UID."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        gpus: int,
        policy: Mapping[str, int],
        service_mode: str = "auto",
        name: str = "",
    ) -> None:
        self._cluster = cluster
        self.name = name or f"agent-{uuid.uuid4().hex[:8]}"
        self._state = _STATE / self.name
        folder = cluster.folder / self.name
        self.gpus = ScriptedNode.create(folder, name=NODE, gpus=gpus)
        make_device_nodes(self.gpus)
        self._config = folder / "agent.yaml"
        config = {"policy": dict(policy), "service_mode": service_mode}
        self._config.write_text(json.dumps(config), encoding="utf-8")
        self._kubeconfig = _kubeconfig(cluster)
        self._pod_uid = str(uuid.uuid4())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the agent is not started"
        return self._process

    def device(self, gpu: int) -> str:
        """The name of a GPU's device; GPUs are numbered in PCI order."""
        return "gpu-" + re.sub(r"[:.]", "-", self.gpus.gpus[gpu].bus_id.lower())

    def newer(self) -> "Agent":
        """Another instance on the same GPUs and the same state, as a rolling update starts it; not started yet."""
        other = copy.copy(self)
        other.name, other._pod_uid = f"{self.name}-{uuid.uuid4().hex[:4]}", str(uuid.uuid4())
        other._process = None
        return other

    @property
    def state(self) -> Path:
        """The agent's state folder, as the host sees it: checkpoint, locks and the DRA sockets."""
        return self._cluster.machine.kubelet_root / self._state.relative_to("/var/lib/kubelet")

    @property
    def endpoint(self) -> Path:
        """The DRA socket of this instance, as the node sees it."""
        return self._state / f"dra-{self._pod_uid}.sock"

    def start(self) -> None:
        """Starts the process; it is not waited for."""
        environment = [f"{name}={value}" for name, value in self.gpus.environment().items()]
        command = ["env", *environment, sys.executable, "-m", "gpuvitals.cli.main", "node", *self._flags()]
        self._process = self._cluster.workspace.start(self.name, self._cluster.machine.enter(command))

    def stop(self) -> None:
        """SIGTERM, as a DaemonSet's pod gets it."""
        if self._process is not None and self._process.poll() is None:
            self._cluster.workspace.stop(self._process)

    def kill(self) -> None:
        """SIGKILL, for its children too, as when the container's memory runs out."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def freeze(self) -> None:
        """Its processes stand still, connections and locks stay."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def cdi_files(self) -> list[str]:
        """Names of the CDI files on the node that are the driver's."""
        return [name for name in self._on_node("ls", "/var/run/cdi").split() if DRIVER in name]

    def lose_cdi_files(self) -> None:
        """They are gone, as /run is after a reboot."""
        for name in self.cdi_files():
            self._on_node("rm", f"/var/run/cdi/{name}")

    def prepared(self) -> list[str]:
        """UIDs of the claims that the agent's checkpoint holds; none before the first was prepared."""
        path = self._state / "checkpoint.json"
        found = (self._on_node("cat", f"{path}{suffix}") for suffix in ("", ".2"))
        slots = sorted((json.loads(slot) for slot in found if slot), key=lambda slot: int(slot["generation"]))
        return [claim["uid"] for claim in slots[-1]["payload"]["claims"]] if slots else []

    def count(self, event: str) -> int:
        """How often the agent, in all its lives, logged this event."""
        return sum(entry["event"] == event for entry in self._log())

    def calls(self, uid: str) -> list[str]:
        """How the kubelet's calls for a claim ended, in order: `prepared`, `unprepare refused` and so on."""
        return [str(entry["event"]) for entry in self._log() if entry.get("uid") == uid]

    def _log(self) -> list[Json]:
        text = self._cluster.workspace.log(self.name).read_text(encoding="utf-8", errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def _on_node(self, *command: str) -> str:
        done = subprocess.run(
            self._cluster.machine.enter(command), capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout

    def _flags(self) -> list[str]:
        (self._cluster.machine.kubelet_root / "plugins" / DRIVER).mkdir(parents=True, exist_ok=True)
        flags: dict[str, object] = {
            "--node-name": NODE,
            "--pod-uid": self._pod_uid,
            "--kubeconfig": self._kubeconfig,
            "--state-dir": self._state,
            "--driver-root": self.gpus.driver_root,
            "--dev-root": self.gpus.driver_root,
            "--proc-root": self.gpus.proc_root,
            "--sysfs-root": self.gpus.sysfs_root,
            "--kernel-log": self.gpus.kernel_log,
            "--boot-id-file": self.gpus.boot_id_file,
            "--config": self._config,
            "--nvml-backend": BACKEND,
        }
        return [str(part) for flag in flags.items() for part in flag]


def _kubeconfig(cluster: Cluster) -> Path:
    """An account with the agent's rights, its token bound to the node; made once a cluster."""
    path = cluster.folder / "agent.kubeconfig"
    if path.exists():
        return path
    api, account = cluster.api, {"metadata": {"name": _ACCOUNT}}
    create(api, "/api/v1/namespaces/default/serviceaccounts", account)
    roles = "/apis/rbac.authorization.k8s.io/v1"
    create(api, f"{roles}/clusterroles", {**account, "rules": _RULES})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ACCOUNT}
    subject = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": "default"}
    create(api, f"{roles}/clusterrolebindings", {**account, "roleRef": role, "subjects": [subject]})
    uid = api.get(f"/api/v1/nodes/{NODE}").body["metadata"]["uid"]
    bound = {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": uid}
    wanted = {"spec": {"boundObjectRef": bound, "expirationSeconds": 7200}}
    issued = create(api, f"/api/v1/namespaces/default/serviceaccounts/{_ACCOUNT}/token", wanted)
    entry = json.loads(cluster.kubeconfig.read_text(encoding="utf-8"))
    entry["users"][0]["user"] = {"token": issued["status"]["token"]}
    path.write_text(json.dumps(entry), encoding="utf-8")
    return path
