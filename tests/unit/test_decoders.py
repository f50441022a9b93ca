"""No module builds msgspec's type information on a thread, and the check that says so sees each way of doing it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "tools" / "check_decoders.py"


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECK), str(root)], capture_output=True, text=True, timeout=50, check=False
    )


def planted(root: Path, module: str, text: str) -> None:
    path = root / "driver" / "gpuvitals" / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_every_decoder_of_the_product_is_made_at_import() -> None:
    """Finding S1."""
    result = check(ROOT)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("import msgspec\nmsgspec.json.decode(b'', type=int)\n", 2, id="type-by-name"),
        pytest.param("import msgspec\nf = lambda b: msgspec.json.decode(b, int)\n", 2, id="type-by-place"),
        pytest.param(
            "from msgspec import json\ndef f(b):\n    return json.decode(b, type=int)\n", 3, id="from"
        ),
        pytest.param("from msgspec.json import decode as d\nx = d(b'1', type=int)\n", 2, id="alias"),
        pytest.param("import msgspec.msgpack as m\nx = m.decode(b'', type=int)\n", 2, id="msgpack"),
        pytest.param("import msgspec\ndef f(b, **k):\n    msgspec.json.decode(b, **k)\n", 3, id="spread"),
        pytest.param("import msgspec\ndef f():\n    return msgspec.json.Decoder(int)\n", 3, id="made-late"),
        pytest.param(
            "import msgspec\nclass A:\n def f(self):\n  msgspec.json.Decoder[int](int)\n", 4, id="method"
        ),
        pytest.param("import msgspec\nf = lambda: msgspec.json.Decoder(int)\n", 2, id="lambda"),
        pytest.param("import msgspec\nmsgspec.convert({}, int)\n", 2, id="convert"),
        pytest.param("import msgspec\nread = msgspec.json.decode\n", 2, id="renamed"),
        pytest.param(
            "import functools, msgspec\nf = functools.partial(msgspec.json.decode, type=int)\n",
            2,
            id="partial",
        ),
        pytest.param(
            "def f():\n    from gpuvitals.kube import nodes\n    return nodes\n", 2, id="late-import"
        ),
    ],
)
def test_a_planted_violation_is_found_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    """Finding S1."""
    planted(tmp_path, "kube/planted.py", text)

    result = check(tmp_path)

    assert result.returncode == 1
    assert result.stdout.startswith(f"driver/gpuvitals/kube/planted.py:{line}: ")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("import msgspec\n_A = msgspec.json.Decoder(int)\n", id="module-level"),
        pytest.param("import msgspec\nclass A:\n    B = msgspec.json.Decoder(int)\n", id="class-level"),
        pytest.param("import msgspec\ndef f(b):\n    return msgspec.json.decode(b)\n", id="no-type"),
        pytest.param("import json\ndef f(b):\n    return json.decode(b, type=int)\n", id="another-library"),
    ],
)
def test_what_is_safe_passes(tmp_path: Path, text: str) -> None:
    planted(tmp_path, "kube/planted.py", text)

    assert check(tmp_path).returncode == 0
