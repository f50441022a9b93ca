"""The guides, block by block, on a real cluster: each command is run as the page has it, in the page's order."""

import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.agentimage import NAME as AGENT_IMAGE
from cluster.build import locate
from cluster.cluster import NODE, Cluster
from cluster.images import BUSYBOX
from cluster.objects import DRIVER, PODS, devices, health, slices
from cluster.release import NAMESPACE, Release
from support.guide_blocks import Block, Guide, Shell

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(300)]

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


def test_the_install_guide_from_the_namespace_to_the_last_file(
    cluster: Cluster, release: Release, shell: Shell, here: Callable[[Block], str]
) -> None:
    """Finding U3: pages that nobody had followed had commands that could not work."""
    guide = Guide("docs/guides/install.md")
    cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}")
    cluster.wait(
        "the namespace is gone",
        lambda: cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}").status == 404,
        seconds=60,
    )
    shell.run(here(guide.take("kubectl create namespace")))
    assert "successfully rolled out" in shell.run(here(guide.take("kubectl -n gpuvitals rollout")))
    cluster.wait("its GPUs are published", release.has_published, seconds=20)
    row = shell.run(here(guide.take(".venv/bin/gpuvitals status"))).splitlines()[1].split()
    assert row[:4] == [NODE, release.device(0), "Healthy", "100"]
    assert "no claim is prepared with it" in shell.run(here(guide.take(".venv/bin/gpuvitals explain")))
    _try_a_pod(cluster, shell, here(guide.take("apiVersion: resource.k8s.io/v1")))
    assert _ready(release, shell, here(guide.take("kubectl -n gpuvitals port-forward"))) == "ok\n"
    shell.run(here(guide.take("helm upgrade")))
    # The pod has ended, and its claim with it.
    assert shell.run(here(guide.take("kubectl get resourceclaims"))) == ""
    shell.run(here(guide.take("helm uninstall")))
    cluster.wait("no agent is left", lambda: not release.pods(), seconds=60)
    cluster.wait("the kubelet has removed the slices", lambda: not slices(cluster.api), seconds=60)
    release.on_node("sh", "-ec", here(guide.take("rm -r")))
    assert release.on_node("sh", "-c", f"ls -d /var/lib/kubelet/plugins/{DRIVER} || true") == ""
    # No container engine runs here, so tests/cluster/agentimage.py assembles the image; the table is the output of `status`.
    assert [each.title.split()[0] for each in guide.left] == ["skopeo", "make", "NODE"]


def _try_a_pod(cluster: Cluster, shell: Shell, manifest: str) -> None:
    ours = manifest.replace("image: ubuntu:24.04", f"image: {BUSYBOX}\n      imagePullPolicy: Never")
    assert ours != manifest
    shell.run(f"kubectl apply --filename - <<'END'\n{ours}END")
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
    cluster: Cluster, release: Release, shell: Shell, here: Callable[[Block], str]
) -> None:
    """Finding U3. The verb, the two annotations and the file of a program, as the page has them."""
    guide = Guide("docs/guides/reports.md")
    release.install()
    release.wait_until_ready()
    cluster.wait("its GPUs are published", release.has_published, seconds=20)
    api, first = cluster.api, release.device(0)

    def reason() -> str:
        return health(api, first)[1] if first in devices(api) else ""

    bad, clear, nothing = here(guide.take("gpuvitals report")).splitlines()
    shell.run(bad)
    cluster.wait("a person's word isolates it", lambda: reason() == "ReportedBad", seconds=30)
    shell.run(nothing)
    shell.run(clear)
    cluster.wait("it is on probation", lambda: reason() == "Probation", seconds=30)
    shell.run(nothing)
    dated = here(guide.take("kubectl annotate node node-7 --overwrite"))
    now = datetime.now(UTC)
    for written, day in (("2026-11-25", now - timedelta(days=1)), ("2026-12-02", now + timedelta(days=6))):
        dated = dated.replace(written, f"{day:%Y-%m-%d}")
    shell.run(dated)
    cluster.wait("the override isolates it", lambda: reason() == "ReportedBad", seconds=30)
    shell.run(nothing)
    told, taken_back = here(guide.take("kubectl annotate node node-7 vitals.internal/report=")).splitlines()
    shell.run(told)
    cluster.wait("the hurried word isolates it", lambda: reason() == "ReportedBad", seconds=30)
    shell.run(taken_back)
    cluster.wait("it is taken back", lambda: reason() != "ReportedBad", seconds=30)
    release.on_node("sh", "-ec", here(guide.take("echo")))
    cluster.wait("a program's word degrades it", lambda: reason() == "ProgramReportedBad", seconds=30)
    release.on_node("rm", "/run/gpuvitals/reports.d/burn-in.txt")
    cluster.wait("it is taken back", lambda: reason() != "ProgramReportedBad", seconds=30)
    assert guide.left == []


def test_the_migration_guide_empties_a_node_and_gives_it_back(
    cluster: Cluster, release: Release, shell: Shell, here: Callable[[Block], str]
) -> None:
    """Finding U3. Every block, in the page's order, but for the selector: a driver upgrade needs it, so it goes last."""
    guide = Guide("docs/guides/coexistence.md")
    drop = guide.take("helm upgrade")
    try:
        for step in guide.left:
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
