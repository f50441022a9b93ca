"""A real etcd and kube-apiserver on loopback, for the tests that compare the simulation with them.

The programs come from tests/cluster/build.py. Service accounts, controllers, scheduler and kubelet are absent: a
case observes the API server alone.
"""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.build import locate
from support.raw_api import Answer, RawApi
from support.realkube.pki import KeyPair, Pki
from support.realkube.workspace import Workspace

START_SECONDS = 45.0
_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"


class ServerError(Exception):
    """A process of the control plane ended or didn't become ready; the text holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of a control plane: the module folder of the API server, its feature gates, further flags."""

    module: str = "kubernetes-1.37"
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    flags: Sequence[str] = ()
    has_nodes: bool = False
    """Whether a controller manager gives pods their service accounts and logs are read from kubelets."""
    prefix: Sequence[str] = ()
    """The prefix of the API server's command, such as nsenter."""
    is_durable: bool = False
    """Whether etcd waits for the disk, as it does in a cluster. Tests do without; benchmarks need it."""


class RealServer:
    """Context manager: a control plane that is ready on entry and gone, with its data, on exit.

    `url`, `kubeconfig` (a path) and `api` (the administrator's raw client) are set on entry. With a workspace given,
    which its owner has opened, the processes end with that and not on exit.
    """

    def __init__(self, settings: ServerSettings | None = None, workspace: Workspace | None = None) -> None:
        self._settings = settings or ServerSettings()
        self._given = workspace
        self._programs = {
            "etcd": locate("etcd", "etcd"),
            "kube-apiserver": locate(self._settings.module, "kube-apiserver"),
        }
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._workspace = self._given or undo.enter_context(Workspace())
            self.pki = Pki(self._workspace.folder / "pki")
            self.signing = self.pki.signing("service-accounts")
            self._start_with_free_ports(self._start_etcd)
            self._start_with_free_ports(self._start_apiserver)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def compact(self, revision: str) -> None:
        """Makes etcd forget every version older than `revision`, as it does by itself after minutes."""
        answer = self._etcd.post("/v3/kv/compaction", {"revision": revision, "physical": True})
        if answer.status != 200:
            raise ServerError(f"compaction at {revision} was refused: {answer.body}")

    def restart(self, module: str = "") -> None:
        """Restarts the API server on its port: objects stay, its memory is lost.

        `module` is the folder of another release, as an upgrade or a rollback starts it.
        """
        self._workspace.stop(self._apiserver)
        if module:
            before, after = self._programs["kube-apiserver"], locate(module, "kube-apiserver")
            self._programs["kube-apiserver"] = after
            self._command = [str(after) if part == str(before) else part for part in self._command]
        self._run_apiserver()

    def client(self, user: str, *, group: str) -> RawApi:
        """Returns a raw client that is this user in this group."""
        return RawApi(self.url, tls=self._tls(self.pki.client(user, group=group)))

    def kubeconfig_for(self, user: str, *, group: str) -> Path:
        """Writes a kubeconfig by which a program is this user in this group; returns its path."""
        path = self._workspace.folder / f"{user.replace(':', '-')}.kubeconfig"
        pair = self.pki.client(user, group=group)
        path.write_text(json.dumps(_kubeconfig(self.url, self.pki.ca, pair)), encoding="utf-8")
        return path

    def _start_with_free_ports(self, start: Callable[[], None]) -> None:
        """A port that was free a moment ago can be taken by the time it is used: then take others."""
        for attempt in range(_ATTEMPTS):
            try:
                return start()
            except ServerError as error:
                if _PORT_TAKEN not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
        return None

    def _start_etcd(self) -> None:
        client_port, peer_port = free_ports(2)
        url, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        process = self._workspace.start(
            "etcd",
            [
                str(self._programs["etcd"]),
                f"--data-dir={self._workspace.folder / 'etcd'}",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                *([] if self._settings.is_durable else ["--unsafe-no-fsync"]),
                "--log-level=warn",
            ],
        )
        self._etcd_url, self._etcd = url, RawApi(url)
        self._wait_until_ready("etcd", process, lambda: self._etcd.get("/health"))

    def _start_apiserver(self) -> None:
        (port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{port}"
        admin = self.pki.client("admin", group="system:masters")
        self.api = RawApi(self.url, tls=self._tls(admin))
        self._command = self._apiserver_command(port)
        self._run_apiserver()
        self.kubeconfig = self._workspace.folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(_kubeconfig(self.url, self.pki.ca, admin)), encoding="utf-8")

    def _run_apiserver(self) -> None:
        self._apiserver = self._workspace.start("kube-apiserver", self._command)
        self._wait_until_ready("kube-apiserver", self._apiserver, lambda: self.api.get("/readyz"))

    def _apiserver_command(self, port: int) -> list[str]:
        serving, signing = self.pki.serving("kube-apiserver"), self.signing
        gates = ",".join(f"{name}={str(on).lower()}" for name, on in self._settings.feature_gates.items())
        return [
            *self._settings.prefix,
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--enable-admission-plugins=NodeRestriction",
            *self._node_flags(),
            f"--client-ca-file={self.pki.ca}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signing.certificate}",
            f"--service-account-signing-key-file={signing.key}",
            f"--feature-gates={gates}",
            *self._settings.flags,
        ]

    def _node_flags(self) -> list[str]:
        if not self._settings.has_nodes:
            # Pods would wait for a service account that only the controller manager creates.
            return ["--disable-admission-plugins=ServiceAccount"]
        kubelet_client = self.pki.client("kube-apiserver-kubelet-client", group="system:masters")
        return [
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            "--kubelet-preferred-address-types=Hostname",
        ]

    def _wait_until_ready(
        self, name: str, process: subprocess.Popen[bytes], probe: Callable[[], Answer]
    ) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(f"{name} ended with {process.returncode}: {self._log_end(name)}")
            try:
                if probe().status == 200:
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(0.05)
        raise ServerError(f"{name} is not ready after {START_SECONDS} s: {self._log_end(name)}")

    def _log_end(self, name: str) -> str:
        return self._workspace.log(name).read_text(encoding="utf-8", errors="replace")[-3000:]

    def _tls(self, pair: KeyPair) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pki.ca))
        context.load_cert_chain(pair.certificate, pair.key)
        return context


def free_ports(count: int) -> list[int]:
    """Returns free loopback ports; all are held until the last one is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _kubeconfig(url: str, ca: Path, admin: KeyPair) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "real",
        "clusters": [{"name": "real", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [
            {
                "name": "admin",
                "user": {"client-certificate": str(admin.certificate), "client-key": str(admin.key)},
            }
        ],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": "admin"}}],
    }
