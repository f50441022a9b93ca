"""The real kube-scheduler and kube-controller-manager beside the API server of `server.py`, without a kubelet.

Nodes are objects that a test creates: the controllers of heartbeats are off. The running controllers handle
claims, device taints, and dependents of deleted owners.
"""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from cluster.build import locate
from support.raw_api import RawApi
from support.realkube.server import RealServer, ServerError, ServerSettings
from support.realkube.workspace import Workspace

CONTROLLERS = (
    "resourceclaim-controller",
    "device-taint-eviction-controller",
    "garbage-collector-controller",
    "namespace-controller",
)


class RealScheduling:
    """Context manager: a control plane that schedules. `api` is the administrator's raw client."""

    def __init__(self, module: str = "kubernetes-1.37") -> None:
        self._module = module
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._workspace = undo.enter_context(Workspace())
            settings = ServerSettings(module=self._module)
            self._server = undo.enter_context(RealServer(settings, self._workspace))
            self.api: RawApi = self._server.api
            self._start_controllers()
            self._start_scheduler()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def check(self) -> None:
        """Raises ServerError with the end of its log if a process has ended."""
        for process, name in (
            (self._manager, "kube-controller-manager"),
            (self._scheduler, "kube-scheduler"),
        ):
            if process.poll() is not None:
                raise ServerError(f"{name} ended with {process.returncode}: {self._log_end(name)}")

    def _start_controllers(self) -> None:
        account = self._server.kubeconfig_for("system:kube-controller-manager", group="system:masters")
        self._manager = self._workspace.start(
            "kube-controller-manager",
            [
                str(locate(self._module, "kube-controller-manager")),
                f"--kubeconfig={account}",
                "--leader-elect=false",
                "--secure-port=0",
                f"--controllers={','.join(CONTROLLERS)}",
                f"--flex-volume-plugin-dir={self._workspace.folder / 'volume-plugins'}",
            ],
        )

    def _start_scheduler(self) -> None:
        account = self._server.kubeconfig_for("system:kube-scheduler", group="system:kube-scheduler")
        self._scheduler = self._workspace.start(
            "kube-scheduler",
            [
                str(locate(self._module, "kube-scheduler")),
                f"--kubeconfig={account}",
                "--leader-elect=false",
                "--secure-port=0",
            ],
        )

    def _log_end(self, name: str) -> str:
        return self._workspace.log(name).read_text(encoding="utf-8", errors="replace")[-3000:]
