"""The chart as helm sees it: golden files, refused values, and what the rendered objects say."""

from pathlib import Path
from uuid import UUID

import pytest

from chart.rendering import CHART, HERE, IMAGE, SETS, ValueSet, helm, page, rendered, template
from gpuvitals.kubeletplugin.sockets import socket_paths

pytestmark = pytest.mark.needs_go


@pytest.mark.parametrize("values", SETS, ids=lambda values: values.name)
def test_each_set_renders_as_its_golden_file(values: ValueSet) -> None:
    assert rendered(values) == values.golden.read_text(encoding="utf-8"), (
        "run `make chart`, look at the difference"
    )


def test_the_charts_page_shows_every_value_as_it_is() -> None:
    assert page() == (CHART / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("values", SETS, ids=lambda values: values.name)
def test_the_linter_finds_nothing(values: ValueSet) -> None:
    flags = [flag for flag in values.flags if not flag.startswith("--api-versions")]
    done = helm("lint", "--strict", str(CHART), IMAGE, *flags)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--set-string=probePort=http", "'/probePort': got string, want integer"),
        ("--set=probePort=80", "'/probePort': minimum: got 80, want 1,024"),
        ("--set=hostNetwork=1", "'/hostNetwork': got number, want boolean"),
        ("--set-string=hostNetwork=true", "'/hostNetwork': got string, want boolean"),
        ("--set=onlyNvidiaNodes=maybe", "'/onlyNvidiaNodes': value must be one of"),
        ("--set=driver.libraryDirs[0]=../lib64", "'/driver/libraryDirs/0'"),
        ("--set=probePort=null", "missing property 'probePort'"),
        ("--set=driver.root=null", "'/driver': missing property 'root'"),
        ("--set=image=gpuvitals", "'/image': got string, want object"),
        ("--set=image.tga=1", "'/image': additional properties 'tga' not allowed"),
        ("--set=image.digest=sha256:1", "'/image/digest'"),
        ("--set=imagge.tag=1", "additional properties 'imagge' not allowed"),
        ("--set=config.serviceMode=maybe", "'/config/serviceMode': value must be one of"),
        ("--set-json=config.policy.blind_seconds=1.5", "'/config/policy/blind_seconds': got number, want integer"),
        ("--set=config.policy.blind_seconds=soon", "'/config/policy/blind_seconds': got string, want integer"),
        ("--set=config.pollSeconds=0", "'/config/pollSeconds': minimum"),
        ("--set=kubeletRoot=var/lib", "'/kubeletRoot'"),
        (f"--set=kubeletRoot=/{'k' * 54}", "'/kubeletRoot': maxLength: got 55, want 54"),
        (f"--set=stateDir=/{'d' * 88}", "'/stateDir': maxLength: got 89, want 88"),
        ("--set=cdiDir=/var/../etc/cdi/", "'/cdiDir'"),
        ("--set=driverName=GPU", "'/driverName'"),
        ("--set=extraArgs=--log-level", "'/extraArgs': got string, want array"),
        ("--set=tolerations[0].effect=Never", "'/tolerations/0/effect': value must be one of"),
        ("--set=resources.limits.memory=much", "'/resources/limits/memory'"),
        ("--set=deviceClasses.extendedResource.name=gpu", "'/deviceClasses/extendedResource/name'"),
        ("--set=networkPolicy.apiServerPorts[0]=https", "'/networkPolicy/apiServerPorts/0': got string, want integer"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_name(flag: str, named: str) -> None:
    done = template(flag)

    assert done.returncode != 0
    assert named in done.stderr.replace("at ", ""), done.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--set=serviceAccount.create=false"], "serviceAccount.name: is empty"),
        (["--set=config.pollSeconds=21"], "config.pollSeconds: is 21, and config.policy.blind_seconds is 60"),
        (
            ["--set=config.pollSeconds=40", "--set=config.policy.blind_seconds=120"],
            "config.policy.level_clear_seconds is 60; level_clear_seconds must be at least 2 polls",
        ),
        (["--set=onlyNvidiaNodes=true", "--set=affinity.nodeAffinity.a=1"], "onlyNvidiaNodes: is a node affinity"),
        (
            ["--kube-version=1.35.0", "--set=deviceClasses.extendedResource.enabled=true"],
            "deviceClasses.extendedResource.enabled: Kubernetes v1.35.0 does not serve",
        ),
        (["--kube-version=1.33.9"], "requires kubeVersion: >=1.34.0-0"),
        (
            [f"--set=kubeletRoot=/{'k' * 40}", f"--set=driverName={'d' * 40}"],
            f"driverName: the state folder /{'k' * 40}/plugins/{'d' * 40} is 90 characters long",
        ),
    ],
    ids=["account", "blind", "clear", "affinity", "extended", "kubernetes", "sockets"],
)  # fmt: skip
def test_values_that_contradict_each_other_or_the_cluster_are_refused(flags: list[str], named: str) -> None:
    done = template(*flags)

    assert done.returncode != 0
    assert named in done.stderr


def test_the_deepest_folders_that_the_chart_takes_have_sockets_that_fit() -> None:
    """Finding P7."""
    state, root = f"/{'d' * 87}", f"/{'k' * 53}"
    done = template(f"--set=stateDir={state}", f"--set=kubeletRoot={root}")
    assert done.returncode == 0, done.stderr
    socket_paths("gpu.vitals.internal", str(UUID(int=1)), Path(state), Path(root, "plugins_registry"))


@pytest.mark.parametrize("driver", ["d" * 63, "abcdef.dra-example-driver.sigs.k8s.io"])
def test_every_legal_driver_name_fits_below_the_usual_kubelet_root(driver: str) -> None:
    """Finding P7."""
    done = template(f"--set=driverName={driver}")
    assert done.returncode == 0, done.stderr


def test_without_an_image_the_chart_says_which_value_is_missing_and_what_to_do() -> None:
    """Finding U1: nothing is pulled from a registry that is not the user's."""
    done = helm("template", "gpuvitals", str(CHART))

    assert done.returncode != 0
    assert "image.repository: is empty" in done.stderr
    assert "--set image.repository=" in done.stderr


def _notes(*flags: str) -> str:
    """What a person reads after an install; the API server is not asked."""
    given = [str(CHART), "--namespace=gpuvitals", "--dry-run=client", IMAGE, *flags]
    done = helm("install", "gpuvitals", *given)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("NOTES:")[2]


def test_the_notes_name_the_commands_of_this_release() -> None:
    notes = _notes("--set=fullnameOverride=vitals", "--set=driverName=gpu.example.com")

    assert "kubectl -n gpuvitals rollout status daemonset/vitals-agent" in notes
    assert "kubectl get resourceslices --field-selector spec.driver=gpu.example.com" in notes
    assert "NOT INSTALLED" not in notes


def test_a_monitor_that_the_cluster_does_not_serve_is_left_out_and_the_notes_say_so() -> None:
    assert "PodMonitor" not in template("--set=podMonitor.enabled=true").stdout
    assert "NOT INSTALLED: podMonitor.enabled is true" in _notes("--set=podMonitor.enabled=true")


def test_golden_files_are_those_of_the_sets() -> None:
    assert {path.stem for path in (HERE / "golden").glob("*.yaml")} == {values.name for values in SETS}
    assert all(Path(values.flags[-1].partition("=")[2]).is_file() for values in SETS if values.values)
