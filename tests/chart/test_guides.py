"""The commands of the guides, executed: helm's and kubectl's on real API servers."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from chart.agents import Cluster
from chart.rendering import CHART, IMAGE, helm
from cluster.build import locate
from support.guide_blocks import blocks

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "docs" / "guides" / "install.md"
COEXISTENCE = ROOT / "docs" / "guides" / "coexistence.md"
PAGES = (CHART / "README.md", INSTALL, COEXISTENCE)
SAFE = ("get", "label", "cordon", "uncordon")
"""Verbs that need no controller, kubelet or pod."""


def commands(page: Path, program: str) -> list[list[str]]:
    """Each command of a page's blocks that starts with the program, as words behind it."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(rf"^ *({program} .*)$", text, re.MULTILINE)]


def test_every_path_that_a_guide_leads_to_exists() -> None:
    for page in (
        *PAGES,
        *(ROOT / "docs" / "adr").glob("02*.md"),
        ROOT / "docs" / "reference" / "refusals.md",
    ):
        links = re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name


@pytest.mark.needs_go
def test_helm_commands_have_flags_and_values_that_are_taken() -> None:
    found = [words for page in PAGES for words in commands(page, "helm")]
    installs = [words for words in found if words[0] in ("install", "upgrade")]

    assert len(installs) >= 5
    for verb, *words in installs:
        known = helm(verb, "--help").stdout
        assert all(word.partition("=")[0] in known for word in words if word.startswith("--")), words
        left = [word for word in words if word not in ("--create-namespace", "--reset-then-reuse-values")]
        if "--reset-then-reuse-values" in words:  # the image is one of those
            left.append(IMAGE)
        done = helm("template", *[str(ROOT / word) if word.startswith("deploy/") else word for word in left])
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.needs_go
@pytest.mark.parametrize("page", ["dcgm.md"])
def test_values_of_a_guide_are_taken_by_the_chart(page: str, tmp_path: Path) -> None:
    for number, found in enumerate(blocks(f"docs/guides/{page}")):
        values = tmp_path / f"{number}.yaml"
        values.write_text(found.text, encoding="utf-8")
        chosen = ("--set=image.repository=registry.example/agent", f"--values={values}")
        done = helm("template", "gpuvitals", str(CHART), *chosen)
        assert done.returncode == 0, done.stderr


def _ran(cluster: Cluster, program: Path, words: Sequence[str], home: Path) -> str:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(
        [str(program), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@pytest.mark.needs_go
@pytest.mark.parametrize("page", [INSTALL, COEXISTENCE], ids=lambda page: page.stem)
def test_kubectl_commands_run(cluster: Cluster, page: Path, tmp_path: Path) -> None:
    kubectl = locate("kubernetes-1.37", "kubectl")
    chosen = [words for words in commands(page, "kubectl") if words[0] in SAFE]

    assert len(chosen) >= 4
    for words in chosen:
        _ran(cluster, kubectl, words, tmp_path)


@pytest.mark.needs_go
@pytest.mark.timeout(120)
def test_the_migration_narrows_the_agents_to_a_label_and_drops_it_in_the_end(
    cluster: Cluster, tmp_path: Path
) -> None:
    install, upgrade = (
        words for words in commands(COEXISTENCE, "helm") if words[0] in ("install", "upgrade")
    )
    own = ["--namespace=moved", "--set=fullnameOverride=moved,driverName=gpu.example.com"]
    path = "/apis/apps/v1/namespaces/moved/daemonsets/moved-agent"
    program = locate("helm", "helm")
    _ran(cluster, program, [*install, *own], tmp_path)
    before = cluster.admin.get(path).body["spec"]["template"]["spec"]
    _ran(cluster, program, [*upgrade, "--namespace=moved"], tmp_path)
    after = cluster.admin.get(path).body["spec"]["template"]["spec"]
    _ran(cluster, program, ["uninstall", "gpuvitals", "--namespace=moved"], tmp_path)

    assert before["nodeSelector"] == {"kubernetes.io/os": "linux", "vitals.internal/agent": "true"}
    assert after["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert after["containers"][0]["image"] == "registry.example/gpuvitals/agent:0.1.0"
