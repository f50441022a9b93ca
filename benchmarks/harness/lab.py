"""The test bed: a real API server, an etcd with fsync, the Go programs, a folder, nodes and claims."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from benchmarks.harness.build import build_peers
from benchmarks.harness.processes import Json, LabError
from benchmarks.harness.watcher import Watcher
from support.realkube.server import RealServer, ServerSettings

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
_WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})


class Lab:
    """Context manager. `folder` is on the disk with the measured fsync; `say` gets one line per step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._cleanup = ExitStack()
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.programs = build_peers()
            self.folder = Path(tempfile.mkdtemp(prefix="gvbench-"))
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.server = undo.enter_context(RealServer(ServerSettings(is_durable=True)))
            self.account = self._account()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def new_name(self, kind: str) -> str:
        """A name that is unique in this run."""
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return f"{kind}-{self._numbers[kind]}"

    def create_node(self, name: str) -> None:
        """A Node object."""
        self._created("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})

    def create_claim(self, name: str, driver: str, pool: str, device: str) -> Json:
        """A claim that is allocated to one device, in the kubelet's form: namespace, name and uid."""
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}},
        }
        claim = self._created(CLAIMS, body)
        result = {"request": "gpu", "driver": driver, "pool": pool, "device": device}
        claim["status"] = {"allocation": {"devices": {"results": [result]}}}
        answer = self.server.api.put(f"{CLAIMS}/{name}/status", claim)
        if answer.status != 200:
            raise LabError(f"claim {name} could not be allocated: {answer.body}")
        return {"namespace": "default", "name": name, "uid": answer.body["metadata"]["uid"]}

    def slices(self, node: str) -> list[Json]:
        """The slices of a node, in the order of their names."""
        items: list[Json] = self.server.api.get(SLICES, fieldSelector=f"spec.nodeName={node}").body["items"]
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def watch_slices(self, node: str) -> Watcher:
        """An observer of a node's slices."""
        return self._watch(f"{SLICES}?watch=1&fieldSelector=spec.nodeName%3D{node}")

    def watch_claims(self) -> Watcher:
        """An observer of all claims."""
        return self._watch(f"{CLAIMS}?watch=1")

    def writes(self) -> dict[str, int]:
        """Writes that the API server has answered since its start, by resource, without dry runs."""
        return writes_from(self._metrics())

    def requests(self, resources: Set[str]) -> dict[tuple[str, str], int]:
        """Requests that the API server has answered since its start, by verb and resource. A watch counts when it ends."""
        return requests_from(self._metrics(), resources)

    def open_watches(self, resources: Set[str]) -> int:
        """The number of open watches of these resources."""
        return watches_from(self._metrics(), resources)

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self.folder / f"{name}.log"

    def service(self) -> dict[str, str]:
        """The environment variables that name the API server to a pod."""
        found = urlsplit(self.server.url)
        return {
            "KUBERNETES_SERVICE_HOST": str(found.hostname),
            "KUBERNETES_SERVICE_PORT": str(found.port),
        }

    def _metrics(self) -> str:
        return str(self.server.api.get("/metrics", accept="text/plain").body["text"])

    def _account(self) -> Path:
        """The mounted folder of a service account with all rights."""
        name = "agent"
        subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        self._created("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
        self._created(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {"metadata": {"name": name}, "subjects": [subject], "roleRef": role},
        )
        path = f"/api/v1/namespaces/default/serviceaccounts/{name}/token"
        token = self._created(path, {"spec": {"expirationSeconds": 86_400}})["status"]["token"]
        folder = self.folder / "account"
        folder.mkdir()
        (folder / "token").write_text(token, encoding="ascii")
        shutil.copy(self.server.pki.ca, folder / "ca.crt")
        return folder

    def _watch(self, path: str) -> Watcher:
        name = self.new_name("watch")
        return Watcher(self.programs["watch"], self.server.kubeconfig, path, self.log(name))

    def _created(self, path: str, body: Json) -> Json:
        answer = self.server.api.post(path, body)
        if answer.status != 201:
            raise LabError(f"POST {path}: {answer.status} {answer.body}")
        return answer.body


def writes_from(metrics: str) -> dict[str, int]:
    """Writes by resource (with `/subresource`) from the text of /metrics, without dry runs."""
    found: dict[str, int] = {}
    for labels, value in _series(metrics, "apiserver_request_total"):
        if labels.get("verb") in _WRITES and not labels.get("dry_run"):
            name = "/".join(part for part in (labels["resource"], labels.get("subresource", "")) if part)
            found[name] = found.get(name, 0) + value
    return found


def requests_from(metrics: str, resources: Set[str]) -> dict[tuple[str, str], int]:
    """Requests by verb and resource from the text of /metrics, with those of subresources, without dry runs."""
    found: dict[tuple[str, str], int] = {}
    for labels, value in _series(metrics, "apiserver_request_total"):
        if labels.get("resource") in resources and not labels.get("dry_run"):
            key = (labels.get("verb", ""), labels["resource"])
            found[key] = found.get(key, 0) + value
    return found


def watches_from(metrics: str, resources: Set[str]) -> int:
    """Open watches of these resources from the text of /metrics."""
    return sum(
        value
        for labels, value in _series(metrics, "apiserver_longrunning_requests")
        if labels.get("verb") == "WATCH" and labels.get("resource") in resources
    )


def _series(metrics: str, name: str) -> Iterator[tuple[dict[str, str], int]]:
    """The labels and the value of each series of a metric."""
    for line in metrics.splitlines():
        if line.startswith(f"{name}{{"):
            text, _, value = line.removeprefix(f"{name}{{").rpartition("} ")
            parts = text.replace('"', "").split(",")
            yield dict(part.split("=", 1) for part in parts if "=" in part), int(float(value))


def tainted(item: Json) -> frozenset[str]:
    """The devices of a slice with a taint that keeps new claims away."""
    return frozenset(
        str(device["name"])
        for device in item["spec"].get("devices") or []
        if any(taint["effect"] != "None" for taint in device.get("taints") or [])
    )
