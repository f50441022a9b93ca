"""A whole Kubernetes of one node: etcd, API server, controller manager, scheduler, containerd, kubelet.

The programs come from build.py. Everything listens on loopback; everything that is made lies in one folder, in a mount
namespace and in control groups that go away with it.
"""

import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster import debian
from cluster.build import locate
from cluster.machine import PREFIX, Machine, release, require_root
from cluster.node import Node, NodeSettings
from support.raw_api import RawApi
from support.realkube.server import RealServer, ServerError, ServerSettings
from support.realkube.workspace import Workspace

RELEASES = ("1.34", "1.36", "1.37")
PACKAGES = ("openssl", "iproute2", "util-linux", "busybox-static", "gcc", "libc6-dev")
READY_SECONDS = 60.0
NODE = "node-a"
_RULES_OFF = {"1.36": "v1beta2"}
"""Releases that keep device taints and serve DeviceTaintRules on request only, with the version that they have of them.

Source: kubernetes/kubernetes v1.36.3 pkg/features/kube_features.go.
"""


class Cluster:
    """Context manager: the node is Ready on entry, and nothing is left on exit. Enter it from the main thread.

    `api` is the administrator's raw client, `kubeconfig` a path, `node` the runtime and the kubelet. `flags` are
    further ones of the API server.
    """

    def __init__(self, release: str, *, say: Callable[[str], None], flags: Sequence[str] = ()) -> None:
        self.release, self.say, self._flags = release, say, flags
        self._module = f"kubernetes-{release}"
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        require_root()
        debian.install(PACKAGES, say=self.say)
        with ExitStack() as undo:
            self.workspace = undo.enter_context(Workspace(prefix=PREFIX, release=release))
            self.machine = Machine(self.workspace, node=NODE)
            self.machine.start()
            self._start_control_plane(undo)
            self.node = self._new_node()
            self.node.start()
            self.wait("the node is Ready", self._is_ready, seconds=READY_SECONDS)
            self.wait("pods may be created", self._has_account, seconds=READY_SECONDS)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @property
    def folder(self) -> Path:
        """The folder that goes away with the cluster."""
        return self.workspace.folder

    def wait(self, what: str, holds: Callable[[], object], *, seconds: float) -> Any:
        """Waits until `holds` answers something true and returns it; fails with the end of every log."""
        deadline = time.monotonic() + seconds
        while not (answer := holds()):
            if time.monotonic() > deadline:
                raise ServerError(f"after {seconds} s not true: {what}\n{self.logs()}")
            time.sleep(0.05)
        return answer

    def logs(self, lines: int = 12) -> str:
        """The end of each program's log, as a failure shows it."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(line[:400] for line in _last(path, lines))
            for path in sorted(self.folder.glob("*.log"))
        )

    @property
    def rules(self) -> str:
        """The path of DeviceTaintRules."""
        return f"/apis/resource.k8s.io/{_RULES_OFF.get(self.release, 'v1')}/devicetaintrules"

    def move_to(self, release: str) -> None:
        """Starts the control plane of another release on the same etcd and the same port; the kubelet stays as it is."""
        for process in self._controllers:
            self.workspace.stop(process)
        self.server.restart(f"kubernetes-{release}")
        self._start_controllers(f"kubernetes-{release}")

    def kubelet_metrics(self) -> list[str]:
        """The lines of the kubelet's own metrics; the API server's proxy goes to no loopback address."""
        tls = ssl.create_default_context()
        # The kubelet has made its certificate itself.
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        admin = self.server.pki.client("admin", group="system:masters")
        tls.load_cert_chain(admin.certificate, admin.key)
        answer = RawApi(f"https://127.0.0.1:{self.node.port}", tls=tls).get("/metrics", accept="*/*")
        if answer.status != 200:
            raise ServerError(f"the kubelet's metrics: {answer.status} {answer.body}")
        return str(answer.body["text"]).splitlines()

    def _start_control_plane(self, undo: ExitStack) -> None:
        # On the node the node's name is in /etc/hosts, and so the API server finds the kubelet.
        flags, self._gates = [*self._flags], dict[str, bool]()
        if self.release in _RULES_OFF:
            flags.append(f"--runtime-config=resource.k8s.io/{_RULES_OFF[self.release]}=true")
            self._gates["DRADeviceTaintRules"] = True
        settings = ServerSettings(
            module=self._module,
            feature_gates=self._gates,
            flags=flags,
            has_nodes=True,
            prefix=self.machine.enter([]),
        )
        self.server = undo.enter_context(RealServer(settings, self.workspace))
        self.api, self.kubeconfig = self.server.api, self.server.kubeconfig
        self._start_controllers(self._module)

    def _start_controllers(self, module: str) -> None:
        manager = self.server.kubeconfig_for("system:kube-controller-manager", group="system:masters")
        scheduler = self.server.kubeconfig_for("system:kube-scheduler", group="system:kube-scheduler")
        gates = ",".join(f"{name}={str(on).lower()}" for name, on in self._gates.items())
        common = ["--leader-elect=false", "--secure-port=0", f"--feature-gates={gates}"]
        self._controllers = (
            self.workspace.start(
                "kube-controller-manager",
                [
                    str(locate(module, "kube-controller-manager")),
                    f"--kubeconfig={manager}",
                    *common,
                    "--use-service-account-credentials=true",
                    f"--root-ca-file={self.server.pki.ca}",
                    f"--service-account-private-key-file={self.server.signing.key}",
                    # Its default is a folder of the host, which it makes.
                    f"--flex-volume-plugin-dir={self.folder / 'volume-plugins'}",
                ],
            ),
            self.workspace.start(
                "kube-scheduler",
                [str(locate(module, "kube-scheduler")), f"--kubeconfig={scheduler}", *common],
            ),
        )

    def _new_node(self) -> Node:
        account = self.server.kubeconfig_for(f"system:node:{NODE}", group="system:nodes")
        settings = NodeSettings(name=NODE, module=self._module, kubeconfig=account, ca=self.server.pki.ca)
        return Node(self.workspace, self.machine, settings)

    def _is_ready(self) -> bool:
        answer = self.api.get(f"/api/v1/nodes/{NODE}")
        conditions = answer.body["status"].get("conditions", []) if answer.status == 200 else []
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    def _has_account(self) -> bool:
        """The controller manager has made the service account that every pod gets."""
        return self.api.get("/api/v1/namespaces/default/serviceaccounts/default").status == 200


def _last(path: Path, lines: int) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
