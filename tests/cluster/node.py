"""The real containerd and kubelet of the cluster's node, on their default paths in the node's own mount namespace."""

import ipaddress
import json
import subprocess
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import images
from cluster.build import locate
from cluster.machine import Machine, hierarchies
from support.realkube.server import ServerError, free_ports
from support.realkube.workspace import Workspace

START_SECONDS = 60.0
_NETWORKS = ipaddress.ip_network("10.88.0.0/16")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """The node's name, the module folder of its kubelet, the kubelet's account and the cluster's authority."""

    name: str
    module: str
    kubeconfig: Path
    ca: Path


class Node:
    """A runtime and a kubelet; containers outlive a restart of either. `port` is the kubelet's, on loopback."""

    def __init__(self, workspace: Workspace, machine: Machine, settings: NodeSettings) -> None:
        self._workspace, self._machine, self._settings = workspace, machine, settings
        self._folder = workspace.folder
        self._socket = "/run/containerd/containerd.sock"
        self._kubelet_command = self._write_kubelet()
        self._containerd_command = self._write_containerd()

    def start(self) -> None:
        """Starts the runtime, gives it the images, starts the kubelet. Raises ServerError with the end of a log."""
        self.start_containerd()
        self.load(images.pause(self._folder))
        self.load(images.busybox())
        self.start_kubelet()

    def start_containerd(self) -> None:
        self._containerd = self._workspace.start("containerd", self._containerd_command)
        self._wait("containerd", self._containerd, lambda: self.ctr("version").returncode == 0)

    def start_kubelet(self) -> None:
        self.launch_kubelet()
        self._wait("kubelet", self._kubelet, self._kubelet_answers)

    def launch_kubelet(self) -> None:
        """Starts the kubelet and doesn't wait for it."""
        self._kubelet = self._workspace.start("kubelet", self._kubelet_command)

    def stop_kubelet(self) -> None:
        self._workspace.stop(self._kubelet)

    def load(self, image: images.Image) -> None:
        """Gives the runtime an image; pods name it with `imagePullPolicy: Never`."""
        archive = images.write(image, self._folder / "image.tar")
        done = self.ctr("images", "import", str(archive))
        archive.unlink()
        if done.returncode != 0:
            raise ServerError(f"containerd refused the image {image.name}: {done.stderr.strip()[-1500:]}")

    def ctr(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs containerd's own client on the node, in the namespace of the kubelet's containers."""
        command = [locate("containerd", "ctr"), "-a", self._socket, "-n", "k8s.io", *arguments]
        return subprocess.run(
            self._machine.enter(command), capture_output=True, text=True, timeout=seconds, check=False
        )

    def kill_containers(self, pod: str, *, sandbox: bool) -> None:
        """SIGKILL for what runs of the pod; with `sandbox` for its sandbox too, as when the node loses power."""
        kinds = ("container", "sandbox") if sandbox else ("container",)
        for kind in kinds:
            labels = f'labels."io.kubernetes.pod.name"=={pod},labels."io.cri-containerd.kind"=={kind}'
            found = self.ctr("containers", "ls", "-q", labels).stdout.split()
            for name in found:
                self.ctr("tasks", "kill", "-s", "SIGKILL", name)

    def _write_containerd(self) -> list[str]:
        binaries, network = self._folder / "cni", self._folder / "cni.d"
        binaries.mkdir()
        network.mkdir()
        for name in ("ptp", "loopback", "host-local"):
            (binaries / name).symlink_to(locate("cni", name))
        (network / "10-pods.conflist").write_text(json.dumps(_network(self._folder.name)), encoding="utf-8")
        config = self._folder / "containerd.toml"
        config.write_text(
            _CONTAINERD.format(
                root=self._folder / "containerd",
                socket=self._socket,
                pause=images.PAUSE,
                binaries=binaries,
                network=network,
                runc=locate("runc", "runc"),
            ),
            encoding="utf-8",
        )
        return self._machine.enter([locate("containerd", "containerd"), "--config", config])

    def _write_kubelet(self) -> list[str]:
        self.port, self._health_port = free_ports(2)
        config = self._folder / "kubelet.json"
        config.write_text(json.dumps(self._kubelet_config(self.port)), encoding="utf-8")
        return self._machine.enter(
            [
                locate(self._settings.module, "kubelet"),
                f"--config={config}",
                f"--kubeconfig={self._settings.kubeconfig}",
                f"--hostname-override={self._settings.name}",
                "--v=2",
            ]
        )

    def _kubelet_config(self, port: int) -> dict[str, object]:
        config: dict[str, object] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": port,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": self._health_port,
            "authentication": {"x509": {"clientCAFile": str(self._settings.ca)}},
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._machine.cgroup,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "resolvConf": "",
            # Nobody answers there; without an address each pod gets a warning of its own.
            "clusterDNS": ["10.96.0.10"],
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "5s",
        }
        if not any((hierarchy / "cgroup.controllers").exists() for hierarchy in _whole(hierarchies())):
            config["failCgroupV1"] = False
        return config

    def _kubelet_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _wait(self, name: str, process: subprocess.Popen[bytes], answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            tail = self._workspace.log(name).read_text(encoding="utf-8", errors="replace")[-3000:]
            if process.poll() is not None:
                raise ServerError(f"{name} ended with {process.returncode}: {tail}")
            if time.monotonic() > deadline:
                raise ServerError(f"{name} is not ready after {START_SECONDS} s: {tail}")
            time.sleep(0.1)


def _whole(found: list[Path]) -> list[Path]:
    """The hierarchy that is the machine's only one; beside those of version 1 a version 2 has no controllers."""
    return found if len(found) == 1 else []


def _network(owner: str) -> dict[str, object]:
    """A /24 of the owner's own that no route of this machine goes to: clusters side by side share no address."""
    routes = subprocess.run(
        ["ip", "-o", "route"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    taken = {line.split()[0].rpartition(".")[0] for line in routes.splitlines()}
    subnets = [str(subnet) for subnet in _NETWORKS.subnets(new_prefix=24)]
    first = zlib.crc32(owner.encode()) % len(subnets)
    ordered = subnets[first:] + subnets[:first]
    subnet = next(subnet for subnet in ordered if subnet.rpartition(".")[0] not in taken)
    ranges = [[{"subnet": subnet}]]
    address = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipMasq": False, "ipam": address}],
    }


_CONTAINERD = """version = 3
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{binaries}"]
  conf_dir = "{network}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  SystemdCgroup = false
"""
