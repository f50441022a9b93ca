"""`gpuvitals explain NODE GPU` with a kubeconfig: the agent's explanation, and the slice when there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.cli.main import main
from support.fakes.exec_server import ExecServer, exec_server

SLICE: dict[str, Any] = {
    "metadata": {"name": "00000-node-a", "annotations": {"vitals.internal/node-report": '{"gpus": 1}'}},
    "spec": {
        "driver": "gpu.vitals.internal",
        "nodeName": "node-a",
        "devices": [
            {
                "name": "gpu-0",
                "attributes": {
                    "health/xidErrors": {"int": 1},
                    "health/state": {"string": "Unhealthy"},
                    "health/reason": {"string": "Xid79"},
                    "uuid": {"string": "GPU-1"},
                },
            }
        ],
    },
}
INSTEAD = "so this is the content of its ResourceSlice"


def explained(
    folder: Path, capsys: pytest.CaptureFixture[str], settings: ExecServer
) -> list[tuple[str, str]]:
    with exec_server(folder, settings) as server:
        code = main(["explain", "node-a", "GPU-1", "--json", "--kubeconfig", str(server.kubeconfig)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return [(each["station"], each["text"]) for each in json.loads(out)]


def test_the_agent_in_the_pod_explains_its_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = [{"station": "verdict", "text": "Unhealthy, from the agent"}]
    settings = ExecServer(slices=[SLICE], output=json.dumps(answer))

    assert explained(tmp_path, capsys, settings) == [("verdict", "Unhealthy, from the agent")]
    (command,) = settings.commands
    assert "command=explain&command=gpu-0&command=--json&command=--agent%3D/state" in command


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param(
            {"pods_status": 403}, f"the agent pods of node-a could not be listed, {INSTEAD}: ", id="list"
        ),
        pytest.param({"is_cut_short": True}, f"the agent could not be reached, {INSTEAD}: ", id="exec"),
        pytest.param(
            {"output": "Traceback"},
            f"pod gpuvitals/agent-x returned no explanation, {INSTEAD}: ",
            id="no JSON",
        ),
        pytest.param(
            {"output": '[{"a": "b"}]'},
            f"pod gpuvitals/agent-x returned no explanation, {INSTEAD}: ",
            id="odd JSON",
        ),
        pytest.param(
            {"output": "no such GPU", "exit_code": 2},
            f"pod gpuvitals/agent-x failed, {INSTEAD}: no such GPU",
            id="exit code",
        ),
    ],
)
def test_without_an_explanation_the_slice_is_shown_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], reason: str
) -> None:
    stations = explained(tmp_path, capsys, ExecServer(slices=[SLICE], **changed))

    assert ("verdict", "Unhealthy, score 0, reason Xid79") in stations
    name, text = stations[-1]
    assert (name, text[: len(reason)]) == ("agent", reason)


@pytest.mark.parametrize(
    "verb", [["status"], ["explain", "node-a", "gpu-0"], ["report", "node-a", "gpu-0", "nothing"]]
)
def test_a_verb_without_the_kubernetes_client_names_the_extra_in_one_line(
    tmp_path: Path, verb: list[str]
) -> None:
    """The environment has a package `kubernetes` that cannot be imported."""
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes" / "__init__.py").write_text("raise ImportError('none here')\n", encoding="utf-8")
    config = tmp_path / "config"
    config.write_text("kind: Config\n", encoding="utf-8")
    command = [sys.executable, "-m", "gpuvitals.cli.main", *verb, "--kubeconfig", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'gpuvitals[kubeconfig]'" in done.stderr
    assert done.stderr.count("\n") == 1
