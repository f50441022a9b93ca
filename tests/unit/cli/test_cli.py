"""The command line: its output, and its messages for bad input."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from gpuvitals.cli.main import main
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.cli.demo_lock import running_mark

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_explain_walks_a_fatal_line_to_the_claim(run: Run) -> None:
    code, out, _ = run("explain", "--line", "NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus.")

    assert code == 0
    for station in (
        "0000:05:00.0",
        "class A",
        "Unhealthy, score 0",
        "unhealthy=Xid79:NoSchedule",
        "Healthy=False",
    ):
        assert station in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("12,1,1,-;NVRM: Xid (PCI:0000:05:00): 79, x", "spoofed"),
        ("6,1,1,-;usb 1-2: new device", "not about a GPU"),
        ("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", "GpuLost"),
        ("NVRM: Xid (PCI:0000:05:00): 13, pid=7, name=train, x", "nothing is wrong"),
        (
            "NVRM: Xid (PCI:0000:05:00): 154, "
            "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
            "the driver's own recovery action",
        ),
        (
            "NVRM: Xid (PCI:0000:05:00): 45, pid=7, name=a, Ch 8 caused by previous Xid 145",
            "caused by XID 145",
        ),
        ("NVRM: Xid (PCI:0000:05:00): 79, x", "one witness"),
        ("NVRM: Xid (PCI:0000:05:00): 79, x", "would count as a second one: nvml-handle, pci-config-space"),
        ("NVRM: Xid (PCI:0000:05:00): 79, x", "UNHEALTHY, in the status of each pod"),
        ("NVRM: Xid (PCI:0000:05:00 GPU-I:05): 95, x", "GPU instance 5 alone"),
        (
            "NVRM: fallen off the bus and is not responding to commands.",
            "not named: every GPU is probed, and no verdict changes",
        ),
        ("[   12.5] NVRM: Xid (PCI:0000:05:00): 79, x", "XidReport"),
        ("Nov 24 10:00:00 n kernel: [   12.5] NVRM: Xid (PCI:0000:05:00): 79, x", "XidReport"),
        ("Nov 24 10:00:00 n app: NVRM: Xid (PCI:0000:05:00): 79, x", "written by another program"),
        (
            "NVRM: Xid (PCI:0000:05:00): 74, NVLink: fatal error detected on link 1"
            "(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)",
            "reported again within 300 s and not repaired, it takes the GPU out",
        ),
        (
            "NVRM: Xid (PCI:0000:05:00): 145, RLW_REMAP Fatal XC0 i0 Link 08 (0x00000004 0x00000040)",
            "RLW_REMAP Fatal; action in NVIDIA's sheet: RESET_GPU",
        ),
        (
            "NVRM: Xid (PCI:0000:05:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 02 (0x021001c6 0x00000000)",
            "look at the other end of the link first",
        ),
        (
            "[ 7.0] pcieport 0000:37:01.0:    [ 5] SDES                   (First)",
            "port 0000:37:01.0 broke off",
        ),
        ("> [ 7.0] NVRM: Xid (PCI:0000:05:00): 79, x", "Unhealthy, score 0"),
        ("    [ 7.0]\tNVRM: Xid (PCI:0000:05:00): 79, x", "Unhealthy, score 0"),
        ("pcieport 0000:37:01.0: AER:    [ 5] SDES", "port 0000:37:01.0 broke off"),
        ("NVRM: None of the NVIDIA devices were initialized.", "brought up no GPU"),
        (
            "NVRM: GPU0 nvAssertFailed: x [NV_ERR_RESET_REQUIRED] (0x62) returned",
            "rejects work until a GPU is reset",
        ),
        ("NVRM: GPU 0000:05:00.0: RmInitAdapter failed! (0x22:0x56:894)", "InitFailed"),
        ("Mar 27 17:40:36 kernel: NVRM: Xid (PCI:0000:05:00): 62, x", "taken to be the kernel's"),
        ('{"_TRANSPORT":"kernel","MESSAGE":"NVRM: Xid (PCI:0000:05:00): 79, x"}', "Unhealthy, score 0"),
        (
            "NVRM: Xid (PCI:0000:05:00): 154, "
            "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
            "a reading of NVML's field ends it",
        ),
        (
            "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Fatal, Link 32 x",
            "it changes no verdict by itself",
        ),
    ],
)
def test_explain_has_an_answer_for_every_line(run: Run, line: str, said: str) -> None:
    code, out, _ = run("explain", "--line", line)

    assert code == 0
    assert said in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("NVRM: Xid (PCI:zz): 79, x", "malformed"),
        ("usb 1-2: new device", "not read: it is in none of the known forms"),
        ("nonsense", "not read: it is in none of the known forms"),
        ("[ 7.0] part NVRM: Xid (PCI:0000:05:00): 79, x", "it contains a driver's line"),
        (
            "Nov 24 10:00:00 node-7 NVRM: Xid (PCI:0000:05:00): 79, x",
            "not read: it is in none of the known forms",
        ),
        ("NVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed", "xid, code 154"),
        (f"4,1,1,-;{'x' * 9000}", "malformed"),
    ],
)
def test_explain_of_a_line_that_cannot_be_read_says_so_and_exits_3(run: Run, line: str, said: str) -> None:
    """Finding U4."""
    code, out, _ = run("explain", "--line", line)

    assert code == 3
    assert said in out


ACTIONS = "154, GPU recovery action changed from 0x0 (None) to {:#x} (x)"
LINES = [*(f"{code}, x" for code in range(1, 180)), *(ACTIONS.format(action) for action in range(12))]
LINES += [
    f"74, NVLink: fatal error detected on link 6({word:#x}, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    for word in (1 << 4, 1 << 21, 1 << 1, 1 << 0)
]


@pytest.mark.parametrize("said", LINES)
def test_explain_does_not_contradict_itself(run: Run, said: str) -> None:
    """Finding N4: the state that it shows is the one that the rule leads to."""
    _, out, _ = run("explain", "--json", "--line", f"NVRM: Xid (PCI:0000:05:00): {said}")
    stations = {each["station"]: each["text"] for each in json.loads(out)}
    rule, verdict = stations["rule"], stations["verdict"]

    wanted = "Healthy"
    if "class A:" in rule:
        wanted = "Unhealthy"
    elif "class B:" in rule or "class B0:" in rule:
        wanted = "Degraded"
    assert verdict.startswith(f"{wanted}, ")
    assert ("taint" in stations["device"].replace("no taint", "")) is (wanted != "Healthy")
    assert stations["service"].startswith("out" if wanted == "Unhealthy" else "in")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (
            "NVRM: Xid (PCI:0000:05:00): 79, x",
            "restart the machine; if the kernel log shows Surprise Down (AER) before it",
        ),
        ("NVRM: Xid (PCI:0000:05:00): 151, x", "restart the virtual machine"),
        ("NVRM: Xid (PCI:0000:05:00): 119, x", "reset the GPU; if it recurs, investigate the software"),
        ("NVRM: Xid (PCI:0000:05:00): 54, x", "check the board's power cables"),
        ("NVRM: Xid (PCI:0000:05:00): 31, x", "restart the application"),
        ("NVRM: GPU 0000:05:00.0: GPU has fallen off the bus.", "reboot the node"),
    ],
)
def test_explain_has_nvidias_advice(run: Run, line: str, advice: str) -> None:
    """Finding L7"""
    _, out, _ = run("explain", "--json", "--line", line)

    assert {each["station"]: each["text"] for each in json.loads(out)}["advice"].startswith(advice)


def test_explain_prints_what_the_readme_shows(run: Run) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    command, _, shown = readme.partition("$ gpuvitals explain --line '")[2].partition("\n")

    assert run("explain", "--line", command.removesuffix("'"))[1] == shown.partition("```")[0]


def test_explain_prints_json(run: Run) -> None:
    _, out, _ = run("explain", "--json", "--line", "NVRM: Xid (PCI:0000:05:00): 94, x")

    assert [station["station"] for station in json.loads(out)][:3] == ["record", "line", "signal"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("explain", "--line", ""), "--line"),
        (("explain",), "either a GPU"),
        (("explain", "gpu-1", "--line", "x"), "either a GPU"),
        (("explain", "gpu-1", "--policy", "dwell_seconds=1"), "--policy"),
        (("explain", "--line", "x", "--policy", "dwell"), "--policy 'dwell'"),
        (("explain", "--line", "x", "--policy", "dwel_seconds=1"), "dwel_seconds"),
        (("explain", "--line", "x", "--policy", "dwell_seconds=-1"), "dwell_seconds"),
        (("status", "--kubeconfig", "/nowhere/config"), "/nowhere/config"),
    ],
)
def test_bad_input_is_one_line_that_names_it_and_exit_code_2(
    run: Run, arguments: tuple[str, ...], named: str
) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("explian",), "'explian'"),
        ((), "VERB"),
        (("explain", "--line", "x", "--lime", "y"), "--lime"),
        (("inject", "xid", "--gpu", "x", "--code", "79"), "--gpu"),
        (("inject", "xid", "--gpu", "1"), "--code"),
        (("node", "--log-level", "loud"), "--log-level"),
        (
            ("status", "--serve", "http://127.0.0.1:1"),
            "status: unrecognized arguments: --serve http://127.0.0.1:1; ",
        ),
        (("status", "--serve", "http://127.0.0.1:1"), "; gpuvitals status --help lists its flags"),
        (("--loud", "status", "--server", "x"), "status: unrecognized arguments: --loud; "),
        (("inject", "set", "--gpu", "1", "x=1", "--dem", "y"), "inject: unrecognized arguments: --dem y; "),
        (
            ("inject", "xid", "--gpu", "1", "--code", "79", "--demo", "/nowhere"),
            "--demo /nowhere: no demo runs",
        ),
        (
            ("inject", "--demo", "/nowhere", "xid", "--gpu", "1", "--code", "79"),
            "--demo /nowhere: no demo runs",
        ),
    ],
)
def test_a_typo_in_a_verb_or_flag_is_one_line_and_exit_code_2(
    run: Run, arguments: tuple[str, ...], named: str
) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


def test_status_lists_devices_with_their_health(run: Run) -> None:
    device = {
        "name": "gpu-0000-05-00-0",
        "attributes": {
            "health/state": {"string": "Unhealthy"},
            "health/score": {"int": 0},
            "health/reason": {"string": "Xid79"},
            "health/xidErrors": {"int": 1},
            "health/nvlinkStatus": {"string": "active"},
            "productName": {"string": "H100"},
        },
        "taints": [{"key": "gpu.vitals.internal/unhealthy", "value": "Xid79", "effect": "NoSchedule"}],
    }
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "00000-x"},
        "spec": {
            "driver": "gpu.vitals.internal",
            "nodeName": "node-a",
            "pool": {"name": "node-a", "generation": 1, "resourceSliceCount": 1},
            "devices": [device],
        },
    }
    with ApiServer() as server:
        server.client("test").create("resourceslices.resource.k8s.io", body)
        code, out, _ = run("status", "--server", server.url)
        _, empty, _ = run("status", "--server", server.url, "--node", "node-b")

    assert code == 0
    assert out.splitlines()[1].split() == [
        "node-a",
        device["name"],
        "Unhealthy",
        "0",
        "Xid79",
        "1",
        "active",
        "out",
        "H100",
    ]
    assert "no GPU is published for node node-b: " in empty


def test_status_says_that_no_server_answers_and_exits_1(run: Run, tmp_path: Path) -> None:
    code, _, err = run("status", "--server", "http://127.0.0.1:1")

    assert code == 1
    assert "no answer" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("node-a", "gpu-1", "bad"), "--reason is missing"),
        (("node-a", "gpu-1", "bad", "--reason", "x", "--for", "soon"), "--for soon"),
        (
            ("node-a", "gpu-1", "bad", "--reason", "x", "--for", "400d"),
            "report: --for 400d: lies more than 366 days ahead",
        ),
        (("node-a", "../gpu", "bad", "--reason", "x"), "report: gpu: '../gpu' is no device name"),
        (("node-a", "gpu-1", "bad", "--reason", "x" * 201), "report: --reason: expected 1 to 200"),
        (("node-a", "gpu-1", "worse", "--reason", "x"), "invalid choice: 'worse'"),
    ],
)
def test_report_names_what_is_wrong_in_one_line(run: Run, arguments: tuple[str, ...], named: str) -> None:
    code, out, err = run("report", *arguments, "--server", "http://127.0.0.1:9")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert named in err


def test_forget_without_an_agent_is_one_line(run: Run, tmp_path: Path) -> None:
    """Finding R1."""
    code, out, error = run("forget", "GPU-0", "--agent", str(tmp_path))

    assert (code, out) == (1, "")
    assert error.count("\n") == 1
    assert "is the agent running on this node?" in error


def test_a_login_without_a_name_has_to_be_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding U4: a container's user has neither a name nor a home, and each was a traceback."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)

    assert run("report", "node-a", "gpu-1", "bad", "--reason", "x") == (
        2,
        "",
        "gpuvitals: report: --by is missing: this login has no name\n",
    )
    code, _, err = run("status")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("gpuvitals: --kubeconfig: not given")


def test_a_list_of_kubeconfigs_is_taken_as_kubectl_takes_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding U4."""
    config = tmp_path / "config"
    with ApiServer() as server:
        config.write_text(
            f"""
clusters: [{{name: c, cluster: {{server: "{server.url}"}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
""",
            encoding="utf-8",
        )
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}::{config}")
        code, out, _ = run("status")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    missing, _, err = run("status")

    assert (code, out.startswith("no GPU is published: ")) == (0, True)
    assert (missing, err) == (2, f"gpuvitals: $KUBECONFIG {tmp_path / 'a'}:{tmp_path / 'b'}: no such file\n")


def test_of_several_demos_the_folder_has_to_be_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding D2: the error names the folders there are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders = [tmp_path / f"gv-demo-{name}" for name in ("a", "b")]
    with ExitStack() as demos:
        for folder in folders:
            folder.mkdir()
            (folder / "kubeconfig").touch()
            demos.enter_context(running_mark(folder))
        code, _, err = run("inject", "lose", "--gpu", "0")

    assert code == 2
    assert err == f"gpuvitals: --demo: name the demo's folder; 2 demos run: {folders[0]}, {folders[1]}\n"


@pytest.mark.parametrize("text", ["", "\n \n"], ids=["empty", "blank"])
def test_lint_of_nothing_is_bad_input(run: Run, tmp_path: Path, text: str) -> None:
    """Finding U4: the output of a command that failed was linted as clean; kubectl says that no objects were passed."""
    path = tmp_path / "none.yaml"
    path.write_text(text, encoding="utf-8")

    assert run("lint", str(path)) == (
        2,
        "",
        f"gpuvitals: lint: {path}: empty; expected a manifest in YAML or JSON\n",
    )
