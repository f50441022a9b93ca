"""Workloads on a demo that is kept up: a Job whose pod a GPU fault evicts, and kinds that the demo lacks."""

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuvitals_sim.apiserver.kinds import BUILT_IN
from support.waiting import eventually
from support.worlds.demo_process import kept, verb_output

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]
SCENARIO = (
    "name: own\ndescription: d\nnodes: {count: 1, gpus: 2}\nsteps:\n- title: t\n  do:\n"
    "  - expect: {slices: {node: 0, devices: 2}, within: 15s}\n"
)


class Demo:
    """The demo's API server, over HTTP as kubectl has it."""

    def __init__(self, folder: Path) -> None:
        config = yaml.safe_load((folder / "kubeconfig").read_text(encoding="utf-8"))
        self._url = config["clusters"][0]["cluster"]["server"]

    def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def devices(self) -> list[Json]:
        """Published devices in PCI order."""
        (found,) = self.call("GET", "/apis/resource.k8s.io/v1/resourceslices")[1]["items"]
        return sorted(found["spec"]["devices"], key=lambda each: str(each["name"]))

    def pods(self) -> list[Json]:
        found: list[Json] = self.call("GET", "/api/v1/namespaces/default/pods")[1]["items"]
        return found


def running(demo: Demo, *, but: str = "") -> Json | None:
    """The pod of the job that runs, another one than `but`."""
    found = [
        each
        for each in demo.pods()
        if each["metadata"]["name"].startswith("training-")
        and each["metadata"]["name"] != but
        and each["status"].get("phase") == "Running"
        and "deletionTimestamp" not in each["metadata"]
    ]
    return found[0] if found else None


def device_of(demo: Demo, pod: Json) -> str:
    name = pod["status"]["resourceClaimStatuses"][0]["resourceClaimName"]
    claim = demo.call("GET", f"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/{name}")[1]
    return str(claim["status"]["allocation"]["devices"]["results"][0]["device"])


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "own.yaml"
    file.write_text(SCENARIO)
    return file


def test_the_example_of_a_job_runs_and_its_pod_moves_away_from_a_failed_gpu(scenario: Path) -> None:
    """Finding D1: with the real agent and the simulated kubelet; the fault costs the Job no attempt."""
    paths = {
        "ResourceClaimTemplate": "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates",
        "Job": "/apis/batch/v1/namespaces/default/jobs",
    }
    text = (ROOT / "examples" / "claims" / "job-gpu-faults" / "job.yaml").read_text(encoding="utf-8")
    with kept("--scenario", str(scenario)) as (process, folder):
        demo = Demo(folder)
        for item in yaml.safe_load_all(text):
            status, answer = demo.call("POST", paths[item["kind"]], item)
            assert status == 201, answer
        first = eventually(lambda: running(demo), 30)
        failed = device_of(demo, first)
        gpu = [each["name"] for each in demo.devices()].index(failed)
        verb_output(["inject", "--demo", str(folder), "xid", "--gpu", str(gpu), "--code", "79"], folder)
        taint = {"key": "gpu.vitals.internal/unhealthy", "value": "Xid79", "effect": "NoExecute"}
        selector = {"driver": "gpu.vitals.internal", "pool": "node-0", "device": failed}
        rule = {"metadata": {"name": "out"}, "spec": {"deviceSelector": selector, "taint": taint}}
        assert demo.call("POST", "/apis/resource.k8s.io/v1/devicetaintrules", rule)[0] == 201
        second = eventually(lambda: running(demo, but=first["metadata"]["name"]), 30)

        assert device_of(demo, second) != failed
        status = demo.call("GET", f"{paths['Job']}/training")[1]["status"]
        assert (status["active"], status.get("failed")) == (1, None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_kind_that_the_demo_lacks_is_not_served(scenario: Path) -> None:
    """Finding D1: kubectl asks discovery, and says `no matches for kind`."""
    with kept("--scenario", str(scenario)) as (_, folder):
        demo = Demo(folder)
        served = {each["name"] for each in demo.call("GET", "/apis/apps/v1")[1]["resources"]}
        made, _ = demo.call(
            "POST", "/apis/apps/v1/namespaces/default/daemonsets", {"metadata": {"name": "x"}}
        )

    assert {name for name in served if "/" not in name} == {"replicasets"}
    assert made == 404


def test_the_page_names_every_kind_that_is_served() -> None:
    page = (ROOT / "docs" / "reference" / "demo-kinds.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| "))

    assert {kind.name for kind in BUILT_IN if kind.name not in rows} == {"DaemonSet"}
