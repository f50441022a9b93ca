"""`gpuvitals lint` on the command line: text, JSON, standard input, exit codes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuvitals.cli.main import main

Run = Callable[..., tuple[int, str, str]]
CLAIM = """\
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: gpu}
spec:
  devices:
    requests:
    - name: gpu
      exactly:
        deviceClassName: gpu.vitals.internal
        selectors:
        - cel: {expression: 'EXPRESSION'}
"""
TRAP = CLAIM.replace("EXPRESSION", 'device.attributes["health"].score > 0.9')
HINT = CLAIM.replace("EXPRESSION", 'device.attributes["health"].nvlinkStatus == "active"')
FIELD = "spec.devices.requests[0].exactly.selectors[0].cel.expression"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(("lint", *arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_finding_is_one_line_and_the_exit_code_1(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "claim.yaml"
    file.write_text(TRAP)

    assert run(str(file)) == (
        1,
        f"{file}:11: [fraction] {FIELD}: health/score is a whole number from 0 to 100; "
        "> 0.9 is true for every value from 1; write > 90\n",
        "",
    )


def test_no_finding_prints_nothing_and_a_hint_does_not_count(run: Run, tmp_path: Path) -> None:
    good, hinted = tmp_path / "good.yaml", tmp_path / "hinted.yaml"
    good.write_text(TRAP.replace("0.9", "90"))
    hinted.write_text(HINT)

    assert run(str(good)) == (0, "", "")
    code, out, _ = run(str(good), str(hinted))
    assert code == 0
    assert out.startswith(f"{hinted}:11: [nvlink-none] {FIELD}: hint: ")


def test_json_has_the_parts_of_each_finding(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "claim.yaml"
    file.write_text(TRAP)
    code, out, _ = run("--json", str(file))
    (found,) = json.loads(out)

    assert code == 1
    assert {**found, "text": ""} == {
        "file": str(file), "line": 11, "rule": "fraction", "field": FIELD, "level": "finding", "text": "",
    }  # fmt: skip


def test_standard_input_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(TRAP.encode())))
    code, out, _ = run("-")

    assert code == 1
    assert out.startswith("<stdin>:11: [fraction]")


def test_other_names_and_known_classes_are_options(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "claim.yaml"
    file.write_text(
        TRAP.replace("0.9", "90").replace("health", "vitals").replace("gpu.vitals.internal", "own")
    )

    assert run("--domain", "vitals", str(file))[0] == 1
    assert run("--domain", "vitals", "--class", "own", str(file))[0] == 0
    assert run("--domain", "vitals", "--driver", "own", str(file))[0] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "f.yaml: no such file", id="no file"),
        pytest.param(b"a: [", "f.yaml:1: not YAML", id="not YAML"),
        pytest.param(b"a: 1\nb: \xff\n", "f.yaml:2: not UTF-8 text", id="not UTF-8"),
        pytest.param(b"[]", "f.yaml:1: expected a Kubernetes object", id="no object"),
    ],
)
def test_bad_input_is_one_line_and_the_exit_code_2(
    run: Run, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "f.yaml"
    if content is not None:
        file.write_bytes(content)
    code, out, err = run(str(file))

    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_folder_is_no_file(run: Run, tmp_path: Path) -> None:
    code, _, err = run(str(tmp_path))

    assert code == 2
    assert "is a directory" in err
