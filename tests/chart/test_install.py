"""The chart on real API servers, by helm as a user runs it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from chart.agents import Cluster, path_of
from chart.rendering import CHART, HERE, IMAGE, SETS, golden_objects, helm, objects
from cluster.build import locate

Json = dict[str, Any]

pytestmark = pytest.mark.needs_go

LABEL = "app.kubernetes.io/instance=second"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COLLECTIONS = (
    "/api/v1/serviceaccounts",
    "/api/v1/configmaps",
    "/apis/apps/v1/daemonsets",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "/apis/resource.k8s.io/v1/deviceclasses",
    DEFINITIONS,
)


@pytest.mark.parametrize("name", [values.name for values in SETS])
def test_the_api_server_accepts_every_object_and_knows_every_field(cluster: Cluster, name: str) -> None:
    for item in golden_objects(name):
        if item["kind"] == "PodMonitor":  # of the Prometheus Operator
            continue
        if item["kind"] != "CustomResourceDefinition":  # its name is made of its kind and group
            item["metadata"]["name"] = f"golden-{item['metadata']['name']}"
        path = f"{path_of(item)}/{item['metadata']['name']}"
        answer = cluster.admin.apply(path, "golden", item, dryRun="All", force=True, fieldValidation="Strict")
        assert answer.status in (200, 201), (path, answer.body)
        assert "warning" not in answer.headers, answer.headers["warning"]


def test_the_extended_resource_is_kept_from_1_36_and_dropped_before(cluster: Cluster) -> None:
    """The reason why the chart refuses the option there: the class would be stored, and would do nothing."""
    (item,) = (
        each for each in golden_objects("everything") if each["metadata"]["name"].startswith("extended.")
    )
    answer = cluster.admin.post(path_of(item), item, dryRun="All")
    minor = int(cluster.admin.get("/version").body["minor"])

    assert answer.status == 201, answer.body
    assert answer.body["spec"].get("extendedResourceName") == ("example.com/gpu" if minor >= 36 else None)


def _helm(kubeconfig: Path, home: Path, *arguments: str) -> str:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(
        [str(locate("helm", "helm")), *arguments, "--namespace=second"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _installed(cluster: Cluster) -> dict[tuple[str, str], str]:
    """Collection and name of each object of the release, and its version."""
    return {
        (path, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for path in COLLECTIONS
        for item in cluster.admin.get(path, labelSelector=LABEL).body["items"]
    }


def _pods_annotations(cluster: Cluster) -> Json:
    path = "/apis/apps/v1/namespaces/second/daemonsets/vitals-agent"
    annotations: Json = cluster.admin.get(path).body["spec"]["template"]["metadata"]["annotations"]
    return annotations


@pytest.mark.timeout(180)
def test_install_upgrade_and_uninstall(cluster: Cluster, tmp_path: Path) -> None:
    """An upgrade without a change writes nothing, one of the agent's file restarts it.

    An uninstall leaves the definition with its policies, and nothing else; the same release takes it up again.
    """
    chart = [
        str(CHART),
        IMAGE,
        "--set=fullnameOverride=vitals,driverName=gpu.example.com,networkPolicy.enabled=true,apiGroup=second.example",
    ]
    notes = _helm(cluster.kubeconfig, tmp_path, "install", "second", *chart, "--create-namespace")
    first, annotations = _installed(cluster), _pods_annotations(cluster)
    _helm(cluster.kubeconfig, tmp_path, "upgrade", "second", *chart)
    second = _installed(cluster)
    _helm(cluster.kubeconfig, tmp_path, "upgrade", "second", *chart, "--set=config.pollSeconds=2")
    third = _installed(cluster)

    assert "kubectl -n second rollout status daemonset/vitals-agent" in notes
    made = helm("template", "second", *chart, "--kube-version=1.37.2").stdout
    assert {name for _, name in first} == {each["metadata"]["name"] for each in objects(made)}
    assert len(first) == len(objects(made))
    assert second == first
    assert {name for (_, name), version in third.items() if version not in first.values()} == {"vitals-agent"}
    assert _pods_annotations(cluster) != annotations

    _helm(cluster.kubeconfig, tmp_path, "uninstall", "second")
    left = _installed(cluster)
    assert set(left) == {(DEFINITIONS, "gpuhealthpolicies.second.example")}
    _helm(cluster.kubeconfig, tmp_path, "install", "second", *chart)
    assert left.items() <= _installed(cluster).items()
    _helm(cluster.kubeconfig, tmp_path, "uninstall", "second")


@pytest.mark.timeout(120)
def test_a_second_release_leaves_the_definition_to_whoever_made_it(cluster: Cluster, tmp_path: Path) -> None:
    name = f"{DEFINITIONS}/gpuhealthpolicies.vitals.internal"
    before = cluster.admin.get(name).body["metadata"]["resourceVersion"]
    chart = [str(CHART), IMAGE, "--set=fullnameOverride=other,driverName=gpu.example.net"]
    _helm(cluster.kubeconfig, tmp_path, "install", "other", *chart, "--create-namespace")
    _helm(cluster.kubeconfig, tmp_path, "uninstall", "other")

    assert cluster.admin.get(name).body["metadata"]["resourceVersion"] == before


def test_the_values_of_the_sets_are_all_used() -> None:
    assert {path.stem for path in (HERE / "values").glob("*.yaml")} == {
        values.name for values in SETS if values.values
    }
