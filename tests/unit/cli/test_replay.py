"""`gpuvitals replay`: files in, timeline and summary out, and messages for bad input."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuvitals.cli.main import main
from support.saved_logs import WRITTEN, LogLine, dmesg, journal_export, quiet, syslog, xid

Run = Callable[..., tuple[int, str, str]]
LOST: list[LogLine] = quiet([(100, "usb 1-1: x"), (200, xid(79))], 500)
HARDWARE = "NVLink: fatal error detected on link 1(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(("replay", *arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[str, bytes], str]:
    def write(name: str, content: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        os.utime(path, (WRITTEN.timestamp(), WRITTEN.timestamp()))
        return str(path)

    return write


Kept = Callable[[str, bytes], str]


def test_a_log_becomes_a_timeline_and_a_summary(run: Run, kept: Kept) -> None:
    code, out, _ = run(kept("kern.log", syslog(LOST)))

    assert code == 0
    assert out.splitlines()[0].startswith("2026-11-24T10:03:20Z  0000:3b:00.0    Unhealthy, score 0: XID 79")
    assert "lines: 3 of 1 file, 2026-11-24T10:01:40Z to 2026-11-24T10:08:20Z; 1 about GPUs" in out
    assert "action restart the machine" in out
    assert "false: between 0 and 1" in out


def test_files_follow_each_other_and_may_be_packed(run: Run, kept: Kept) -> None:
    old = kept("kern.log.2.gz", gzip.compress(syslog(LOST)))
    new = kept("kern.log.1", syslog(quiet([(1000, xid(120))], 1500)))
    code, out, _ = run(old, new)

    assert code == 0
    assert "confirmed: XID 120 800 s later" in out


def test_files_with_wall_clocks_are_put_in_order_and_others_are_read_as_given(run: Run, kept: Kept) -> None:
    new = kept("kern.log", syslog(quiet([(1000, xid(120))], 1500)))
    old = kept("kern.log.1.gz", gzip.compress(syslog(LOST)))
    exported = kept("older", journal_export([(1, "usb 1-1: x")]))
    _, out, _ = run(new, old, exported)
    first = kept("first", dmesg(LOST))
    second = kept("second", dmesg([(5, "usb 1-1: x"), (50, xid(120))]))
    _, counted, _ = run(first, second)

    assert "confirmed: XID 120 800 s later" in out
    assert "step back" not in out
    assert "boots: 1" in counted


def test_standard_input_is_a_log_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(dmesg(LOST))

    monkeypatch.setattr("sys.stdin", Stdin())
    code, out, _ = run("-")

    assert code == 0
    assert "would leave service: Xid79" in out


def test_a_reader_that_has_seen_enough_ends_it_with_one_line(kept: Kept) -> None:
    """Finding L11, finding U4."""
    log = kept("dmesg", dmesg([(float(at), xid(79, bus=f"{at:04x}:01:00")) for at in range(900)]))
    command = [sys.executable, "-m", "gpuvitals.cli.main", "replay", log]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"gpuvitals: standard output: the reader has closed the pipe\n"
        assert process.wait(30) == 141


def test_json_is_one_object_a_line(run: Run, kept: Kept) -> None:
    _, out, _ = run("--json", kept("dmesg", dmesg(LOST)))
    objects = [json.loads(line) for line in out.splitlines()]

    assert [each["kind"] for each in objects] == ["verdict", "isolated", "summary"]
    assert objects[-1]["gpus"][0]["out"] is True


POLICY = """apiVersion: vitals.internal/v1alpha1
kind: GPUHealthPolicy
metadata: {name: patient}
spec: {mode: Observe, health: {dwellEpisodes: 3, dwellSeconds: 600}}
"""


def test_a_policy_may_be_a_file_that_the_cluster_would_take(run: Run, kept: Kept) -> None:
    log = kept("dmesg", dmesg(quiet([(1000, xid(74, HARDWARE)), (1250, xid(74, HARDWARE))], 1290)))
    policy = kept("policy.yaml", POLICY.encode())
    _, out, _ = run(log, "--compare", policy)
    _, overridden, _ = run(log, "--policy", policy, "--policy", "dwell_episodes=2")

    assert "0000:3b:00.0    only with policy: out for Xid74" in out
    assert "would leave service: Xid74" in overridden


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("kind: Pod\n", "expected one document of kind GPUHealthPolicy"),
        (POLICY + "---\n" + POLICY, "expected one document"),
        (POLICY.replace("dwellEpisodes", "dwelEpisodes"), "spec.health: 'dwelEpisodes': unknown"),
        (POLICY.replace("mode: Observe", "mood: Observe"), "mood"),
        ("a: [", "not YAML"),
    ],
)
def test_a_policy_file_that_the_cluster_would_refuse_is_bad_input(
    run: Run, kept: Kept, content: str, named: str
) -> None:
    code, _, err = run(kept("good", dmesg(LOST)), "--policy", kept("policy.yaml", content.encode()))

    assert code == 2
    assert "policy.yaml" in err
    assert named in err
    assert err.count("\n") == 1


def test_a_second_policy_is_compared(run: Run, kept: Kept) -> None:
    log = kept("dmesg", dmesg(quiet([(1000, xid(74, HARDWARE)), (1250, xid(74, HARDWARE))], 1290)))
    _, out, _ = run(log, "--policy", "dwell_episodes=2", "--compare", "dwell_episodes=3")
    _, alike, _ = run(log, "--compare", "publish_step=7")

    assert "0000:3b:00.0    only with policy: out for Xid74 (undecided)" in out
    assert "Both policies give the same result for this log." in alike


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("/nowhere/kern.log",), "/nowhere/kern.log: no such file"),
        (("{folder}",), "is a directory"),
        (("{text}",), "text:1: is not a log"),
        (("{cut}",), "cut.gz: is damaged or cut off"),
        (("{json}",), "json:2: is not JSON"),
        (("{good}", "--policy", "dwell_seconds"), "--policy 'dwell_seconds'"),
        (("{good}", "--compare", "dwel_seconds=1"), "--compare: policy value 'dwel_seconds'"),
        (("{good}", "--gpus", "0"), "--gpus: 0 is not from 1"),
        (("{good}", "--gpus", "many"), "--gpus"),
        ((), "LOG"),
    ],
)
def test_bad_input_is_one_line_that_names_it_and_exit_code_2(
    run: Run, kept: Kept, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    files = {
        "folder": str(tmp_path),
        "text": kept("text", b"hello\n"),
        "cut": kept("cut.gz", gzip.compress(dmesg(LOST) * 100)[:-20]),
        "json": kept("json", b'{"MESSAGE":"x"}\n{"MESSAGE":"NVRM'),
        "good": kept("good", dmesg(LOST)),
    }
    code, _, err = run(*(argument.format(**files) for argument in arguments))

    assert code == 2
    assert named in err
    assert err.count("\n") == 1


GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "replay.md"


def test_the_guide_shows_what_is_printed(run: Run, kept: Kept) -> None:
    said = [(100, "usb 1-1: x"), (200, xid(79, "GPU has fallen off the bus.")), (200, xid(120))]
    _, out, _ = run(kept("kern.log", syslog(quiet([*said, (7200, "Linux version 6.8.0")], 10_800))))
    shown = re.findall(r"^```\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    timeline, summary = (block for block in shown if not block.startswith(("gpuvitals", "journalctl")))

    assert out == f"{timeline}\n{summary}"


def test_every_command_of_the_guide_runs(run: Run, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Path(kept("kern.log", syslog(LOST)))
    kept("kern.log.1", syslog(LOST))
    kept("kern.log.2.gz", gzip.compress(syslog(LOST)))
    monkeypatch.chdir(log.parent)
    shown = re.findall(r"^gpuvitals replay (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)

    assert len(shown) == 2
    assert [run(*shlex.split(arguments))[0] for arguments in shown] == [0, 0]


def test_a_log_that_cannot_all_be_read_ends_with_code_3_and_shows_what_is_missing(
    run: Run, kept: Kept
) -> None:
    """Finding L3."""
    log = kept("mixed", dmesg(LOST) + b"?? NVRM: Xid (PCI:0000:3b:00): 79, x\n")
    code, out, _ = run(log)
    _, counted, _ = run("--json", log)

    assert code == 3
    assert "the result is incomplete" in out
    assert f"{log}:4: ?? NVRM: Xid" in out
    assert json.loads(counted.splitlines()[-1])["log"]["unread"] == 1


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "plain": bytes}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_is_read_as_a_stream_packed_or_not(packer: str, name: str) -> None:
    """Finding L11."""
    command = [sys.executable, "-m", "gpuvitals.cli.main", "replay", name]
    done = subprocess.run(
        command, input=PACKERS[packer](dmesg(LOST)), stdout=subprocess.PIPE, timeout=120, check=False
    )

    assert done.returncode == 0
    assert b"would leave service: Xid79" in done.stdout


@pytest.mark.parametrize("packer", PACKERS)
def test_pipes_are_logs_and_put_in_order(packer: str, run: Run, kept: Kept, tmp_path: Path) -> None:
    """Finding L11."""
    newer = kept("kern.log", syslog(quiet([(1000, xid(120))], 1500)))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = PACKERS[packer](syslog(LOST).replace(b"Nov 24", b"2026-11-24T").replace(b"T ", b"T"))
    writer = threading.Thread(target=fifo.write_bytes, args=(content,), name="writer", daemon=True)
    writer.start()
    code, out, _ = run(newer, str(fifo))
    writer.join(60)

    assert not writer.is_alive()
    assert code == 0
    assert "confirmed: XID 120 800 s later" in out


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(40), "is compressed by zstd"),
        (b"PK\x03\x04" + bytes(40), "is a zip archive"),
        (b"BZh9" + bytes(40), "is damaged or cut off"),
        (b"\xfd7zXZ\x00" + bytes(40), "is damaged or cut off"),
        (b"LPKSHHRH" + bytes(300), "is a binary journal file"),
    ],
)
def test_what_is_no_text_is_named_in_one_line(run: Run, kept: Kept, content: bytes, named: str) -> None:
    """Finding L11."""
    for others in ((), (kept("good", dmesg(LOST)),)):
        code, _, err = run(*others, kept("odd", content))

        assert (code, err.count("\n")) == (2, 1)
        assert named in err


def test_a_closed_standard_input_is_one_line_and_a_code() -> None:
    """Finding L11."""
    command = f"{sys.executable} -m gpuvitals.cli.main replay - <&-"
    done = subprocess.run(("sh", "-c", command), stderr=subprocess.PIPE, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (2, b"gpuvitals: replay: <stdin>: is closed\n")
