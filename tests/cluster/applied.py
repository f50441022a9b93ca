"""Examples as a user applies them on the cluster, and what becomes of their pods."""

import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

from cluster.build import locate
from cluster.cluster import Cluster
from cluster.images import BUSYBOX
from cluster.objects import Json, create
from support.dra_objects import condition
from support.worlds.example_cluster import api_path, objects

CONTROL = ["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl"]
"""Device nodes that come with any GPU of the fake driver."""
RUN_SECONDS = 30.0


class Applied:
    """Cases of examples/claims on a cluster whose node has the image of their pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._api = cluster, cluster.api

    def apply(self, case: str, change: Callable[[Json], object] = lambda _: None) -> None:
        """Creates the case's objects, each after `change`."""
        for item in objects(case):
            change(item)
            create(self._api, api_path(item), with_local_image(item))
            if item["kind"] == "Namespace":
                # Every pod gets this account, which the controller manager makes a moment later.
                account = f"/api/v1/namespaces/{item['metadata']['name']}/serviceaccounts/default"
                self._cluster.wait("pods may be created", partial(self._is_there, account), seconds=20)

    def again(self, case: str, name: str) -> None:
        """Creates the case's pod once more, under another name."""
        (item,) = [each for each in objects(case) if each["kind"] == "Pod"]
        item["metadata"]["name"] = name
        create(self._api, api_path(item), with_local_image(item))

    def pod(self, name: str, namespace: str = "default") -> Json:
        found: Json = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}").body
        return found

    def running(self, name: str, namespace: str = "default") -> Json:
        """The pod once its container runs."""

        def seen() -> Json | None:
            found = self.pod(name, namespace)
            states = found.get("status", {}).get("containerStatuses") or []
            return found if states and all(state["ready"] for state in states) else None

        found: Json = self._cluster.wait(f"{name} runs", seen, seconds=RUN_SECONDS)
        return found

    def pending(self, name: str, namespace: str = "default") -> str:
        """The reason for which the scheduler could not place the pod."""

        def refused() -> Any:
            found = condition(self.pod(name, namespace), "PodScheduled")
            return found.get("status") == "False" and found["reason"]

        return str(self._cluster.wait(f"{name} is refused", refused, seconds=RUN_SECONDS))

    def claim(self, pod: Json) -> Json:
        """The pod's one claim."""
        status, spec = pod["status"], pod["spec"]
        if "extendedResourceClaimStatus" in status:
            name = status["extendedResourceClaimStatus"]["resourceClaimName"]
        else:
            (reference,) = spec["resourceClaims"]
            made = status.get("resourceClaimStatuses") or [{}]
            name = reference.get("resourceClaimName") or made[0]["resourceClaimName"]
        namespace = pod["metadata"]["namespace"]
        path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}"
        found: Json = self._api.get(path).body
        return found

    def held(self, pod: Json) -> list[str]:
        """The devices of the pod's claim."""
        return [result["device"] for result in self._results(pod)]

    def requests(self, pod: Json) -> list[str]:
        """For which request each device is held."""
        return [result["request"] for result in self._results(pod)]

    def seen(self, pod: Json) -> list[str]:
        """Paths of the device nodes that the container listed."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"

        def said() -> list[str]:
            lines = str(self._api.get(path).body.get("text", "")).splitlines()
            return sorted(line.split()[-1] for line in lines if line.startswith("c"))

        found: list[str] = self._cluster.wait("the container has looked", said, seconds=10)
        return found

    def run_in(self, pod: str, *command: str) -> str:
        """`kubectl exec`; fails with its words."""
        kubectl = [str(locate("kubernetes-1.37", "kubectl"))]
        kubectl += [f"--kubeconfig={self._cluster.kubeconfig}", "exec", pod, "--", *command]
        done = subprocess.run(kubectl, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def healthy(self, pod: Json) -> tuple[str, str]:
        """Status and reason of the condition Healthy that the pod's claim shows; empty while there is none."""
        for entry in self.claim(pod)["status"].get("devices") or []:
            found = condition({"status": entry}, "Healthy")
            return str(found.get("status", "")), str(found.get("reason", ""))
        return "", ""

    def delete(self, *names: str) -> None:
        """Deletes pods and waits for their end and that of the claims that were made for them."""
        paths = []
        for name in names:
            for made in self.pod(name)["status"].get("resourceClaimStatuses") or []:
                claim = made["resourceClaimName"]
                paths.append(f"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/{claim}")
            paths.append(f"/api/v1/namespaces/default/pods/{name}")
            self._api.delete(paths[-1])
        self._cluster.wait(
            f"{names} are gone",
            lambda: all(self._api.get(path).status == 404 for path in paths),
            seconds=RUN_SECONDS,
        )

    def _is_there(self, path: str) -> bool:
        return self._api.get(path).status == 200

    def _results(self, pod: Json) -> list[Json]:
        found: list[Json] = self.claim(pod)["status"]["allocation"]["devices"]["results"]
        return found


def with_local_image(item: Json) -> Json:
    """The object with the workload image that the node has, since nothing is pulled here."""
    spec = item.get("spec", {})
    if item["kind"] == "Job":
        spec = spec["template"]["spec"]
    for container in spec.get("containers") or []:
        assert container["image"].startswith("busybox:")
        container |= {"image": BUSYBOX, "imagePullPolicy": "Never"}
    return item
