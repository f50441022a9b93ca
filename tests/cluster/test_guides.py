"""The guides, block by block, on a real cluster: each command is run as the page has it, in the page's order."""

import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.agentimage import NAME as AGENT_IMAGE
from cluster.build import locate
from cluster.cluster import NODE, Cluster
from cluster.images import BUSYBOX
from cluster.objects import DRIVER, PODS, devices, health, slices
from cluster.release import NAMESPACE, Release
from support.guides import Block, Shell, block, blocks

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(300)]

INSTALL = "docs/guides/install.md"
REPORTS = "docs/guides/reports.md"
COEXISTENCE = "docs/guides/coexistence.md"
_REPOSITORY, _, _TAG = AGENT_IMAGE.rpartition(":")


@pytest.fixture
def shell(cluster: Cluster, release: Release, tmp_path: Path) -> Shell:
    """The reader's shell. Helm gets the scripted hardware as values; everything else is the pages' own."""
    values = release.values_file()
    helm, kubectl = locate("helm", "helm"), locate("kubernetes-1.37", "kubectl")
    programs = {
        "helm": f'case "$1" in install) exec {helm} "$@" --values={values};; *) exec {helm} "$@";; esac',
        "kubectl": f'exec {kubectl} "$@"',
        "gpuvitals": f'exec {sys.executable} -m gpuvitals.cli.main "$@"',
    }
    return Shell(tmp_path / "reader", programs, {"KUBECONFIG": str(cluster.kubeconfig)})


@pytest.fixture
def here(release: Release) -> Callable[[Block], str]:
    """Returns a block's text with this cluster's names in place of the page's: node, first GPU, image, port."""

    def named(found: Block) -> str:
        text = found.text
        for written, here in (
            ("registry.example/gpuvitals/agent", _REPOSITORY),
            ("node-0", NODE),
            ("node-7", NODE),
            ("node-a", NODE),
            ("9440", str(release.probe_port)),
            (".venv/bin/gpuvitals", "gpuvitals"),
        ):
            text = text.replace(written, here)
        return re.sub(r"gpu-0000-[0-9a-f]{2}-00-0", release.device(0), text)

    return named


@pytest.fixture
def page(here: Callable[[Block], str]) -> Callable[[str, str], str]:
    """Returns the block of a page that begins so, for this cluster."""
    return lambda path, start: here(block(path, start))


def test_the_install_guide_from_the_namespace_to_the_last_file(
    cluster: Cluster, release: Release, shell: Shell, page: Callable[[str, str], str]
) -> None:
    """Finding U3: pages that nobody had followed had commands that could not work."""
    cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}")
    cluster.wait(
        "the namespace is gone",
        lambda: cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}").status == 404,
        seconds=60,
    )
    shell.run(page(INSTALL, "kubectl create namespace"))
    assert "successfully rolled out" in shell.run(page(INSTALL, "kubectl -n gpuvitals rollout"))
    cluster.wait("its GPUs are published", release.has_published, seconds=20)
    assert NODE in shell.run("kubectl get resourceslices")
    row = shell.run(page(INSTALL, ".venv/bin/gpuvitals status")).splitlines()[1].split()
    assert row[:4] == [NODE, release.device(0), "Healthy", "100"]
    assert "no claim is prepared with it" in shell.run(page(INSTALL, ".venv/bin/gpuvitals explain"))
    _try_a_pod(cluster, shell, page)
    assert _ready(release, shell, page(INSTALL, "kubectl -n gpuvitals port-forward")) == "ok\n"
    shell.run(page(INSTALL, "helm upgrade"))
    assert (
        shell.run(page(INSTALL, "kubectl get resourceclaims")) == ""
    )  # the pod has ended, and its claim with it
    shell.run(page(INSTALL, "helm uninstall"))
    cluster.wait("no agent is left", lambda: not release.pods(), seconds=60)
    cluster.wait("the kubelet has removed the slices", lambda: not slices(cluster.api), seconds=60)
    release.on_node("sh", "-ec", page(INSTALL, "rm -r"))
    assert release.on_node("sh", "-c", f"ls -d /var/lib/kubelet/plugins/{DRIVER} || true") == ""


def _try_a_pod(cluster: Cluster, shell: Shell, page: Callable[[str, str], str]) -> None:
    manifest = page(INSTALL, "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate")
    here = manifest.replace("image: ubuntu:24.04", f"image: {BUSYBOX}\n      imagePullPolicy: Never")
    assert here != manifest
    shell.run(f"kubectl apply --filename - <<'END'\n{here}END")
    cluster.wait(
        "the pod has run",
        lambda: cluster.api.get(f"{PODS}/try-gpu").body["status"].get("phase") == "Succeeded",
        seconds=60,
    )


def _ready(release: Release, shell: Shell, command: str) -> str:
    """What /readyz answers through the page's port-forward."""
    forward = shell.start(command)
    try:

        def answer() -> str | None:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{release.probe_port}/readyz", timeout=5
                ) as found:
                    return str(found.read().decode())
            except urllib.error.HTTPError:
                raise
            except OSError:
                return None

        return str(release.cluster.wait("the port is forwarded", answer, seconds=20))
    finally:
        os.killpg(forward.pid, signal.SIGTERM)
        forward.communicate(timeout=10)


def test_the_reports_guide_takes_a_gpu_out_of_service_and_back(
    cluster: Cluster, release: Release, shell: Shell, page: Callable[[str, str], str]
) -> None:
    """Finding U3. The verb, the two annotations and the file of a program, as the page has them."""
    release.install()
    release.wait_until_ready()
    cluster.wait("its GPUs are published", release.has_published, seconds=20)
    api, first = cluster.api, release.device(0)

    def reason() -> str:
        return health(api, first)[1] if first in devices(api) else ""

    bad, clear, nothing = page(REPORTS, "gpuvitals report").splitlines()
    shell.run(bad)
    cluster.wait("a person's word isolates it", lambda: reason() == "ReportedBad", seconds=30)
    shell.run(nothing)
    shell.run(clear)
    cluster.wait("it is on probation", lambda: reason() == "Probation", seconds=30)
    shell.run(nothing)
    told, taken_back = page(REPORTS, "kubectl annotate node node-7 vitals.internal/report=").splitlines()
    shell.run(told)
    cluster.wait("the hurried word isolates it", lambda: reason() == "ReportedBad", seconds=30)
    shell.run(taken_back)
    cluster.wait("it is taken back", lambda: reason() != "ReportedBad", seconds=30)
    release.on_node("sh", "-ec", page(REPORTS, "echo"))
    cluster.wait("a program's word degrades it", lambda: reason() == "ProgramReportedBad", seconds=30)
    release.on_node("rm", "/run/gpuvitals/reports.d/burn-in.txt")
    cluster.wait("it is taken back", lambda: reason() != "ProgramReportedBad", seconds=30)


def test_the_migration_guide_empties_a_node_and_gives_it_back(
    cluster: Cluster, release: Release, shell: Shell, here: Callable[[Block], str]
) -> None:
    """Finding U3. Every block, in the page's order, but for the selector: a driver upgrade needs it, so it goes last."""
    drop = block(COEXISTENCE, "helm upgrade")
    try:
        for step in blocks(COEXISTENCE):
            if step == drop:
                continue
            shell.run(here(step))
            if step.title.startswith("helm install"):
                assert not release.pods()
            if "vitals.internal/agent=true" in step.title and step.title.startswith("kubectl"):
                release.wait_until_ready()
                cluster.wait("its GPUs are published", release.has_published, seconds=20)
        cluster.wait("no agent is left on the node", lambda: not release.pods(), seconds=60)
        shell.run(here(drop))
        release.wait_until_ready()
    finally:
        shell.run(f"kubectl uncordon {NODE}; kubectl label node {NODE} nvidia.com/gpu.deploy.device-plugin-")
