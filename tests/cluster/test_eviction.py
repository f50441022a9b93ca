"""docs/guides/eviction.md, command by command, on a real cluster: a rule that only counts, then evicts, then is gone."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.agent import Agent
from cluster.build import locate
from cluster.cluster import Cluster
from cluster.objects import (
    CLAIMS,
    PODS,
    allocated,
    as_written,
    claim,
    create,
    is_gone,
    is_running,
    pod,
    start_gpu_pod,
)

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(180)]

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "eviction.md"
_DEVICE = "gpu-0000-1b-00-0"


@pytest.fixture
def steps() -> tuple[str, list[str]]:
    """The page's rule and its commands, in order."""
    text = _PAGE.read_text(encoding="utf-8")
    (rule,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return rule, re.findall(r"```\n(kubectl .*?)\n```", text)


def test_a_rule_counts_the_pods_first_and_evicts_them_when_it_is_told_to(
    cluster: Cluster, start_agent: Callable[..., Agent], steps: tuple[str, list[str]]
) -> None:
    agent, api = start_agent(cluster), cluster.api
    rule, (ask, act, end) = steps
    assert _DEVICE in rule
    rule = rule.replace(_DEVICE, agent.device(0)).replace(
        "resource.k8s.io/v1\n", f"resource.k8s.io/{cluster.rules.split('/')[3]}\n"
    )
    start_gpu_pod(api, "train")
    cluster.wait("the pod runs", lambda: is_running(api, "train"), seconds=30)
    assert allocated(api, "train") == [agent.device(0)]
    before = as_written(api, "")
    _kubectl(cluster, "kubectl apply --filename -", rule)
    try:
        said = cluster.wait("it has counted", lambda: _kubectl(cluster, ask), seconds=10)
        assert "1 published device selected. 1 allocated device selected." in said
        assert "1 pod would be evicted in 1 namespace" in said
        assert is_running(api, "train")

        _kubectl(cluster, act)
        cluster.wait("the pod is evicted", lambda: is_gone(api, "train"), seconds=20)
        create(api, CLAIMS, claim("next"))
        create(api, PODS, pod("next", claims=("next",)))
        cluster.wait("the next pod runs", lambda: is_running(api, "next"), seconds=30)
        assert allocated(api, "next") == [agent.device(1)]
    finally:
        _kubectl(cluster, end)
    assert as_written(api, "") == before


def _kubectl(cluster: Cluster, command: str, given: str = "") -> str:
    """What a command of the page prints; fails with its words."""
    words = shlex.split(command)
    assert words[0] == "kubectl"
    program = [str(locate("kubernetes-1.37", "kubectl")), f"--kubeconfig={cluster.kubeconfig}"]
    done = subprocess.run(
        [*program, *words[1:]], input=given, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
