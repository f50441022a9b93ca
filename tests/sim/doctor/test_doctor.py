"""`gpuvitals doctor` as a person runs it: a made node with the real NVML binding on the mock, broken in one way at a time."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.cli.doctor import _as_the_agent
from gpuvitals.cli.main import main
from gpuvitals.doctor.check import Outcome, findings, ok
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.apiserver.access import Access
from gpuvitals_sim.apiserver.request_log import RequestFacts
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.fakes.nvml_mock import library
from support.worlds.agent_node import serving

pytestmark = pytest.mark.needs_cc

BACKEND = "gpuvitals.signals.nvml_worker.pynvml_backend:PynvmlBackend"
CLUSTER = ("api-server", "dra-api", "node", "rights", "device-taints", "other-drivers")


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with serving() as running:
        yield running


class MadeNode:
    """A node below one folder, and the doctor's verdict on it."""

    def __init__(self, folder: Path, server: ApiServer | None) -> None:
        self.folder = folder
        self.gpus = ScriptedNode.create(folder, name="node-a", gpus=2)
        self.gpus.kernel_line("nvidia: loading out-of-tree module taints kernel.")
        for name in ("registry", "cdi", "plugins"):
            (folder / name).mkdir()
        self.arguments = ["--node-name", "node-a", "--nvml-backend", BACKEND]
        for flag, path in (
            ("state-dir", folder / "plugins" / "gpuvitals"),
            ("registry-dir", folder / "registry"),
            ("cdi-dir", folder / "cdi"),
            ("driver-root", self.gpus.driver_root),
            ("dev-root", self.gpus.driver_root),
            ("proc-root", self.gpus.proc_root),
            ("sysfs-root", folder / "sys"),
            ("kernel-log", folder / "kmsg"),
        ):
            self.arguments += [f"--{flag}", str(path)]
        if server is not None:
            self.arguments += ["--server", server.url]

    def examine(self, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[dict[str, Any]]]:
        code = main(["doctor", *self.arguments, *more, "--json"])
        document = json.loads(capsys.readouterr().out)
        assert document["node"] == "node-a"
        checks: list[dict[str, Any]] = document["checks"]
        return code, checks


@pytest.fixture
def made(
    tmp_path: Path, nvml: Path, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., MadeNode]]:
    """Below a short path: a socket's has to fit."""

    def make(reached: ApiServer | None = server) -> MadeNode:
        node = MadeNode(Path(short) / "node", reached)
        for name, value in node.gpus.library_environment(nvml).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        return node

    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as short:
        yield make


def outcomes(checks: list[dict[str, Any]]) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in checks}


def detail(checks: list[dict[str, Any]], name: str) -> str:
    return str(next(check["detail"] for check in checks if check["name"] == name))


def test_a_node_in_order_passes_every_check(
    made: Callable[..., MadeNode], nvml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = made()
    code, checks = node.examine(capsys)

    assert [check for check in checks if check["outcome"] != "ok"] == []
    assert (code, set(outcomes(checks).values())) == (0, {"ok"})
    assert str(nvml) in detail(checks, "nvml")
    assert "595.45.04" in detail(checks, "nvml")
    for gpu in node.gpus.gpus:
        assert gpu.uuid in detail(checks, f"gpu {gpu.bus_id}")
    assert {"kernel-log", "driver-files", "device-nodes", "cdi", "socket-paths", *CLUSTER} <= set(
        outcomes(checks)
    )


BREAKS: dict[str, tuple[Callable[[MadeNode], object], str, str]] = {
    "no kernel log": (lambda node: (node.folder / "kmsg").unlink(), "kernel-log", "No such file"),
    "a kernel log that is a folder": (
        lambda node: ((node.folder / "kmsg").unlink(), (node.folder / "kmsg").mkdir()),
        "kernel-log",
        "directory",
    ),
    "no device node": (
        lambda node: (node.gpus.driver_root / "dev" / "nvidia1").unlink(),
        "device-nodes",
        "nvidia1",
    ),
    "no nvidia-uvm": (
        lambda node: (node.gpus.driver_root / "dev" / "nvidia-uvm").unlink(),
        "device-nodes",
        "modprobe",
    ),
    "no libcuda": (lambda node: drop_libraries(node, "libcuda"), "driver-files", "libcuda.so.1"),
    "no kubelet": (lambda node: (node.folder / "registry").rmdir(), "kubelet-registry", "no such folder"),
    "no plugins folder": (
        lambda node: (node.folder / "plugins").rmdir(),
        "kubelet-plugins",
        "no such folder",
    ),
    "a file for a CDI folder": (
        lambda node: ((node.folder / "cdi").rmdir(), (node.folder / "cdi").touch()),
        "cdi",
        "no such folder",
    ),
    "a driver that is not loaded": (lambda node: node.gpus.unload_driver(9), "nvml", "Driver Not Loaded"),
    "a lost GPU": (lambda node: node.gpus.lose(1), "gpu 0000:43:00.0", "does not enumerate"),
}


def drop_libraries(node: MadeNode, stem: str) -> None:
    for path in node.gpus.driver_root.rglob(f"{stem}.so*"):
        path.unlink()


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_broken_fails_with_its_advice_and_the_rest_is_still_checked(
    made: Callable[..., MadeNode], capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    node = made()
    break_it, name, words = BREAKS[broken]
    break_it(node)
    code, checks = node.examine(capsys)
    failed = [check for check in checks if check["outcome"] == "fail"]

    assert code == 1
    assert name in {check["name"] for check in failed}
    assert words in detail([check for check in failed if check["name"] == name], name)
    assert all(check["advice"] for check in failed)
    assert outcomes(checks)["api-server"] == "ok"


def test_without_an_api_server_the_node_is_checked_alone(
    made: Callable[..., MadeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = made(None).examine(capsys)

    assert [check for check in checks if check["outcome"] == "fail"] == []
    assert code == 0
    assert [outcomes(checks)[name] for name in CLUSTER] == ["skipped"] * len(CLUSTER)
    assert "--kubeconfig" in detail(checks, "api-server")


def test_an_api_server_that_does_not_answer_fails_once(
    made: Callable[..., MadeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = made(None).examine(capsys, "--server", "http://127.0.0.1:9")

    assert code == 1
    assert [outcomes(checks)[name] for name in CLUSTER] == ["fail"] + ["skipped"] * (len(CLUSTER) - 1)


def test_rights_that_are_missing_are_named(
    made: Callable[..., MadeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    def allows(request: RequestFacts) -> bool:
        return (request.verb, request.resource) not in {("delete", "resourceslices"), ("create", "events")}

    with ApiServer(access=Access(allows=allows)) as server:
        server.client("test").create(
            "nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        )
        code, checks = made(server).examine(capsys)
    missing = next(check["facts"]["missing"] for check in checks if check["name"] == "rights")

    assert code == 1
    assert missing == ["delete resourceslices.resource.k8s.io", "create events.events.k8s.io"]


def test_another_driver_and_a_wrong_node_name_fail(
    made: Callable[..., MadeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    with ApiServer() as server:
        client = server.client("test")
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        client.create("nodes", {**node, "status": {"allocatable": {"nvidia.com/gpu": "8"}}})
        made_node = made(server)
        code, checks = made_node.examine(capsys)
        made_node.arguments[1] = "node-b"
        main(["doctor", *made_node.arguments])
        text = capsys.readouterr().out

    assert (code, outcomes(checks)["other-drivers"]) == (1, "fail")
    assert "nvidia.com/gpu" in detail(checks, "other-drivers")
    assert "there is no Node node-b; to do: " in text


def test_a_machine_without_a_gpu_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a check, and no traceback, whatever machine the tests run on."""
    empty = tmp_path / "sys" / "bus" / "pci" / "devices"
    empty.mkdir(parents=True)
    code = main(["doctor", "--sysfs-root", str(tmp_path / "sys"), "--driver-root", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()

    assert code in (0, 1)
    assert {line.split()[0] for line in lines} <= {"ok", "warn", "fail", "skipped"}
    assert any(line.startswith("skipped nvml") and "no NVIDIA GPU" in line for line in lines)


@pytest.mark.parametrize("arguments", [["--state-directory", "x"], ["--config", "/nowhere.yaml"], ["extra"]])
def test_wrong_usage_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    assert capsys.readouterr().err.startswith("gpuvitals: ")


def test_a_check_that_raises_or_hangs_is_a_failed_check() -> None:
    def raises() -> Iterator[Any]:
        yield ok("first", "well")
        raise RuntimeError("on\npurpose")

    reading, writing = os.pipe()
    try:
        broken = findings("odd", raises, 5.0)
        hung = findings("slow", lambda: [ok("slow", os.read(reading, 1).decode())], 0.1)
    finally:
        os.write(writing, b"x")
        os.close(writing)

    assert [finding.outcome for finding in broken] == [Outcome.OK, Outcome.FAIL]
    assert broken[1].detail == "the check itself failed: RuntimeError: on purpose"
    assert [(finding.outcome, finding.detail) for finding in hung] == [
        (Outcome.FAIL, "no result within 0.1 s")
    ]


def test_in_the_agents_pod_the_agents_flags_count(tmp_path: Path) -> None:
    """`kubectl exec ... gpuvitals doctor` checks the folders of the agent beside it, but for flags that are given."""
    import argparse

    from gpuvitals.cli.node_options import add_node_options

    command = tmp_path / "cmdline"
    words = ["/usr/bin/python3", "/usr/bin/gpuvitals", "node", "--driver-root=/driver-root", "--cdi-dir=/cdi"]
    command.write_bytes("\0".join([*words, "--log-level=debug"]).encode() + b"\0")
    parser = argparse.ArgumentParser()
    add_node_options(parser)
    options = parser.parse_args(["--cdi-dir", "/mine"])
    _as_the_agent(options, command)
    other = parser.parse_args([])
    (tmp_path / "init").write_bytes(b"/sbin/init\0")
    _as_the_agent(other, tmp_path / "init")
    _as_the_agent(other, tmp_path / "absent")

    assert (options.driver_root, options.cdi_dir) == (Path("/driver-root"), Path("/mine"))
    assert other == parser.parse_args([])
