"""The chart installed by helm as a user installs it, with the test image and scripted hardware in the node's place."""

import json
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from chart.rendering import CHART
from cluster.agentimage import NAME, agent_image
from cluster.build import locate
from cluster.cluster import NODE, Cluster
from cluster.devicenodes import make_device_nodes
from cluster.objects import DRIVER, SLICES, Json, create, devices, slices
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.hardware.state_file import load_state, save_state
from gpuvitals_sim.hardware.sysfs import SysfsFolder
from support.realkube.server import free_ports

NAMESPACE = RELEASE = "gpuvitals"
AGENTS = f"/api/v1/namespaces/{NAMESPACE}/pods"
STATE = Path("/var/lib/kubelet/plugins") / DRIVER
CDI = Path("/var/run/cdi")
READY_SECONDS = 60.0
_ALL_PODS = "/api/v1/pods"
_ALL_JOBS = "/apis/batch/v1/jobs"
_ALL_CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
_ALL_TEMPLATES = "/apis/resource.k8s.io/v1/resourceclaimtemplates"
_REAL_BUS = Path("/sys/bus/pci/devices")


def hardware(folder: Path, *, gpus: int, profile: str = "h100") -> ScriptedNode:
    """A node's GPUs as files, with character devices, on a PCI domain that this machine doesn't have.

    The real kernel log is read from its oldest record, so no two runs may have the same bus ids either.
    """
    node = ScriptedNode.create(folder, name=NODE, profile=profile, gpus=gpus)
    make_device_nodes(node)
    domain, bus = f"{0x8000 | uuid.uuid4().int & 0x7FFF:04x}", SysfsFolder(node.sysfs_root)
    assert not list(_REAL_BUS.glob(f"{domain}:*")), f"this machine has a PCI domain {domain}"
    moved = []
    for gpu in node.gpus:
        bus.remove(gpu)
        moved.append(msgspec.structs.replace(gpu, bus_id=f"{domain}{gpu.bus_id[4:]}"))
        bus.add(moved[-1])
    save_state(node.state_file, msgspec.structs.replace(load_state(node.state_file), gpus=tuple(moved)))
    return node


class Release:
    """One helm release on a cluster. The images are given to the node; nothing is installed yet."""

    def __init__(self, cluster: Cluster, gpus: ScriptedNode, api: tuple[str, int]) -> None:
        """`api` is where a pod reaches the API server."""
        self.cluster, self.gpus, self._api = cluster, gpus, api
        self._home = gpus.directory / "helm"
        self._home.mkdir()
        # On the host's network it is a port of this machine.
        (self.probe_port,) = free_ports(1)
        _load_images(cluster)
        if cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}").status == 404:
            labels = {"pod-security.kubernetes.io/enforce": "privileged"}
            body = {"metadata": {"name": NAMESPACE, "labels": labels}}
            create(cluster.api, "/api/v1/namespaces", body)

    def install(
        self, *, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None, **values: object
    ) -> None:
        """`helm install`; `flags` and `environment` are further ones of the agent, `values` of the chart."""
        file = self.values_file(flags=flags, environment=environment, **values)
        self.helm("install", RELEASE, str(CHART), f"--values={file}")

    def values_file(
        self, *, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None, **values: object
    ) -> Path:
        """Returns a file with the values that `install` gives to helm."""
        file = self._home / "values.json"
        file.write_text(json.dumps(self._values(flags, environment or {}) | values), encoding="utf-8")
        return file

    def upgrade(self, *settings: str) -> None:
        """`helm upgrade` as the guide has it, with these settings changed."""
        changes = [f"--set={setting}" for setting in settings]
        self.helm("upgrade", RELEASE, str(CHART), "--reset-then-reuse-values", *changes)

    def uninstall(self) -> None:
        """`helm uninstall`, and the agent's end."""
        self.helm("uninstall", RELEASE)
        self.cluster.wait("no agent is left", lambda: not self.pods(), seconds=30)

    def helm(self, *arguments: str) -> str:
        """Runs helm with a home of its own; fails with its words."""
        environment = {
            "HOME": str(self._home),
            "PATH": "/usr/bin:/bin",
            "KUBECONFIG": str(self.cluster.kubeconfig),
        }
        command = [str(locate("helm", "helm")), *arguments, f"--namespace={NAMESPACE}"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kubectl(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts kubectl in the release's namespace; its output is a pipe."""
        program = str(locate("kubernetes-1.37", "kubectl"))
        command = [program, f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={NAMESPACE}", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def pods(self) -> list[Json]:
        """The agent's pods."""
        found: list[Json] = self.cluster.api.get(AGENTS).body["items"]
        return found

    def wait_until_ready(self, *, but: str = "") -> Json:
        """The one agent's pod once it is Ready, and no other is left; never the pod with the UID `but`."""
        return self._waited("the agent is Ready", but)

    def device(self, gpu: int) -> str:
        """The name of a GPU's device; GPUs are numbered in PCI order."""
        return "gpu-" + self.gpus.gpus[gpu].bus_id.lower().replace(":", "-").replace(".", "-")

    def has_published(self) -> bool:
        """Whether the slice shows every GPU of this hardware, and no other."""
        return list(devices(self.cluster.api)) == [self.device(gpu) for gpu in range(len(self.gpus.gpus))]

    def clear(self) -> None:
        """Takes everything away again: pods, claims, the release, and what the guide removes from the node by hand."""
        cluster = self.cluster
        for path in (_ALL_JOBS, _ALL_PODS, _ALL_CLAIMS, _ALL_TEMPLATES):
            for item in cluster.api.get(path).body["items"]:
                if item["metadata"]["namespace"] != NAMESPACE:
                    cluster.api.delete(_place(path, item), {"propagationPolicy": "Background"})
        for path in (_ALL_PODS, _ALL_CLAIMS):
            cluster.wait(f"nothing is left at {path}", lambda path=path: self._is_empty(path), seconds=60)
        if self.helm("list", "--short").strip():
            self.uninstall()
        for item in slices(cluster.api):
            cluster.api.delete(f"{SLICES}/{item['metadata']['name']}")
        self.on_node("rm", "-rf", str(STATE))

    def _is_empty(self, path: str) -> bool:
        items = self.cluster.api.get(path).body["items"]
        return all(item["metadata"]["namespace"] == NAMESPACE for item in items)

    def log(self) -> str:
        """What the agent's container said."""
        return "\n".join(
            str(self.cluster.api.get(f"{AGENTS}/{pod['metadata']['name']}/log").body) for pod in self.pods()
        )

    def on_node(self, *command: str) -> str:
        """Runs a command on the node; fails with its words."""
        entered = self.cluster.machine.enter(command)
        done = subprocess.run(entered, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cdi_files(self) -> list[str]:
        """Names of the driver's CDI files on the node."""
        return [name for name in self.on_node("sh", "-c", f"ls {CDI}").split() if DRIVER in name]

    def _waited(self, what: str, but: str) -> Json:
        def ready() -> Json | None:
            pods = self.pods()
            one = pods[0] if len(pods) == 1 and pods[0]["metadata"]["uid"] != but else None
            return one if one is not None and is_ready(one) else None

        found: Json = self.cluster.wait(what, ready, seconds=READY_SECONDS)
        return found

    def _values(self, flags: Sequence[str], further: Mapping[str, str]) -> Json:
        gpus, (host, port) = self.gpus, self._api
        repository, _, tag = NAME.rpartition(":")
        folder = str(gpus.directory)
        environment = {**gpus.environment(), "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        environment |= further
        return {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "driver": {"root": str(gpus.driver_root), "devRoot": str(gpus.driver_root)},
            "sysfsRoot": str(gpus.sysfs_root),
            "extraArgs": [f"--nvml-backend={BACKEND}", f"--proc-root={gpus.proc_root}", *flags],
            "extraEnv": [{"name": name, "value": str(value)} for name, value in environment.items()],
            "extraVolumes": [{"name": "hardware", "hostPath": {"path": folder, "type": "Directory"}}],
            "extraVolumeMounts": [{"name": "hardware", "mountPath": folder, "readOnly": True}],
            "probePort": self.probe_port,
        }


def _place(collection: str, item: Json) -> str:
    """The path of an object that was listed in every namespace."""
    root, _, plural = collection.rpartition("/")
    metadata = item["metadata"]
    return f"{root}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


def is_ready(pod: Json) -> bool:
    """Whether the pod has the condition Ready and is not about to end."""
    conditions = pod["status"].get("conditions") or []
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def restarts(pod: Json) -> int:
    """How often the kubelet has started the pod's container anew."""
    (status,) = pod["status"]["containerStatuses"]
    return int(status["restartCount"])


def versions(cluster: Cluster) -> list[tuple[str, str]]:
    """UID and resourceVersion of each slice."""
    return [(item["metadata"]["uid"], item["metadata"]["resourceVersion"]) for item in slices(cluster.api)]


def _load_images(cluster: Cluster) -> None:
    mark = cluster.folder / "release-images"
    if mark.exists():
        return
    cluster.node.load(agent_image(cluster.say))
    mark.touch()
