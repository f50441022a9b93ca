"""`gpuvitals status` and `gpuvitals explain NODE GPU` against the embedded API server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.cli.command import command
from gpuvitals.cli.main import main
from gpuvitals_sim.apiserver import ApiServer

Run = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


def device(name: str, state: str, score: int, *, domain: str = "health", tainted: bool = False) -> Json:
    found: Json = {
        "name": name,
        "attributes": {
            f"{domain}/state": {"string": state},
            f"{domain}/score": {"int": score},
            f"{domain}/reason": {"string": "Xid79" if tainted else "None"},
            f"{domain}/xidErrors": {"int": int(tainted)},
            "uuid": {"string": f"GPU-of-{name}"},
            "productName": {"string": "H100"},
            "resource.kubernetes.io/pciBusID": {"string": name[4:].replace("-", ":", 2).replace("-", ".")},
        },
    }
    if tainted:
        found["taints"] = [{"key": "gpu.x/unhealthy", "value": "Xid79", "effect": "NoSchedule"}]
    return found


def publish(
    server: ApiServer,
    node: str,
    *devices: Json,
    driver: str = "gpu.vitals.internal",
    report: Json | str | None = None,
) -> None:
    metadata: Json = {"name": f"00000-{node}-{driver}"}
    if report is not None:
        text = report if isinstance(report, str) else json.dumps(report)
        metadata["annotations"] = {"vitals.internal/node-report": text}
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": metadata,
        "spec": {
            "driver": driver,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": list(devices),
        },
    }
    server.client("test").create("resourceslices.resource.k8s.io", body)


WITHDRAWN = {
    "mode": "withdraw",
    "gpus": 2,
    "withdrawn": [
        {
            "device": "gpu-0000-07-00-0",
            "uuid": "GPU-gone",
            "pciBusID": "0000:07:00.0",
            "productName": "H100",
            "state": "Unhealthy",
            "reason": "Xid95",
            "message": "uncontained memory error",
            "xidErrors": 1,
            "nvlinkStatus": "active",
        }
    ],
}


def test_failed_gpus_come_first_and_withdrawn_ones_are_listed(server: ApiServer, run: Run) -> None:
    """Finding U4: a page of healthy GPUs hid the one that a person looked for, and withdraw mode hid it altogether."""
    publish(server, "node-a", device("gpu-0000-05-00-0", "Healthy", 100), report={"gpus": 1})
    publish(server, "node-b", device("gpu-0000-05-00-0", "Degraded", 80), report=WITHDRAWN)
    publish(server, "node-c", device("gpu-0000-05-00-0", "Unhealthy", 0, tainted=True))
    code, out, _ = run("status", "--server", server.url)
    rows = [line.split() for line in out.splitlines()[1:]]

    assert code == 0
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("node-b", "Unhealthy", "Xid95"),
        ("node-c", "Unhealthy", "Xid79"),
        ("node-b", "Degraded", "None"),
        ("node-a", "Healthy", "None"),
    ]
    assert [row[7] for row in rows if len(row) > 8] == ["out"]


def test_every_gpuvitals_is_recognised_by_its_slices_and_other_drivers_are_not(
    server: ApiServer, run: Run
) -> None:
    """Finding K9: a release under other names was invisible."""
    publish(server, "node-a", device("gpu-0000-05-00-0", "Healthy", 100))
    publish(
        server, "node-a", device("gpu-0000-06-00-0", "Healthy", 97, domain="vitals"), driver="gpu.example.com"
    )
    publish(
        server, "node-a", {"name": "nic-0", "attributes": {"speed": {"int": 400}}}, driver="nic.example.com"
    )
    code, out, _ = run("status", "--server", server.url)
    header, *rows = out.splitlines()

    assert code == 0
    assert header.split()[0] == "DRIVER"
    assert [row.split()[0] for row in rows] == ["gpu.example.com", "gpu.vitals.internal"]
    _, only, _ = run("status", "--server", server.url, "--driver", "gpu.example.com")
    assert [row.split()[:4] for row in only.splitlines()] == [
        ["NODE", "DEVICE", "STATE", "SCORE"],
        ["node-a", "gpu-0000-06-00-0", "Healthy", "97"],
    ]


def test_what_a_node_reports_is_told_and_a_broken_report_hides_no_other_node(
    server: ApiServer, run: Run
) -> None:
    publish(
        server, "node-a", report={"gpus": 0, "reasons": ["DriverAbsent"], "missingGpus": ["0000:05:00.0"]}
    )
    publish(server, "node-b", device("gpu-0000-05-00-0", "Healthy", 100), report="{broken")
    code, out, _ = run("status", "--server", server.url)

    assert code == 0
    assert "node-a: DriverAbsent" in out
    assert "node-a: missing GPUs: 0000:05:00.0" in out
    assert "node-b: its node report cannot be read" in out
    assert "gpu-0000-05-00-0  Healthy" in out


@pytest.mark.parametrize("name", ["gpu-0000-05-00-0", "GPU-of-gpu-0000-05-00-0", "0000:05:00.0"])
def test_explain_of_a_node_without_an_agent_pod_shows_the_slice_and_says_so(
    server: ApiServer, run: Run, name: str
) -> None:
    """Finding U2: explanations work from a kubeconfig; here nobody can be asked, since the simulation runs no pods."""
    publish(server, "node-a", device("gpu-0000-05-00-0", "Unhealthy", 0, tainted=True), report={"gpus": 1})
    code, out, _ = run("explain", "node-a", name, "--server", server.url)

    assert code == 0
    assert "Unhealthy, score 0, reason Xid79" in out
    assert "out: no new claim gets it; taint gpu.x/unhealthy=Xid79:NoSchedule" in out
    assert "no agent pod runs on node-a, so this is the content of its ResourceSlice" in out


def test_explain_of_a_withdrawn_gpu_has_the_reports_words(server: ApiServer, run: Run) -> None:
    publish(server, "node-b", device("gpu-0000-05-00-0", "Healthy", 100), report=WITHDRAWN)
    code, out, _ = run("explain", "node-b", "0000:07:00.0", "--server", server.url)

    assert code == 0
    assert "uncontained memory error" in out


@pytest.mark.parametrize(
    ("node", "gpu", "named"),
    [("node-x", "gpu-0000-05-00-0", "'node-x'"), ("node-a", "gpu-7", "it has gpu-0000-05-00-0")],
)
def test_explain_of_an_unknown_node_or_gpu_is_bad_input(
    server: ApiServer, run: Run, node: str, gpu: str, named: str
) -> None:
    publish(server, "node-a", device("gpu-0000-05-00-0", "Healthy", 100))
    code, out, err = run("explain", node, gpu, "--server", server.url)

    assert (code, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("on_path", "printed"),
    [("elsewhere/gpuvitals", "tree/gpuvitals"), ("tree/gpuvitals", "gpuvitals"), ("", "tree/gpuvitals")],
)
def test_printed_commands_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: str, printed: str
) -> None:
    """Finding U4: a command that is not on the PATH is printed with its path."""
    for folder in ("elsewhere", "tree"):
        program = tmp_path / folder / "gpuvitals"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / Path(on_path).parent) if on_path else "/nowhere")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "tree" / "gpuvitals")])

    assert command() == printed
    assert command(anywhere=True) == (printed if on_path == "tree/gpuvitals" else f"{tmp_path}/{printed}")
