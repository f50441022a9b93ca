"""The ten stages from the kernel log to the ResourceSlice: the files and ARCHITECTURE.md number them alike."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "driver" / "gpuvitals"
STAGES = [
    "signals/kmsg/source",
    "signals/kmsg/decode",
    "node/queue",
    "node/node_health",
    "health/evaluate",
    "health/verdict",
    "node/outputs",
    "inventory/pool",
    "kube/slices/plan",
    "kube/slices/publisher",
]


def documented(text: str) -> list[tuple[int, str]]:
    """The numbered items of the walk, each with the first module that it names."""
    walk = text.partition("## The walk of one fault")[2].partition("\n## ")[0]
    items = re.findall(r"^(\d+)\. `driver/gpuvitals/([a-z0-9_/]+)\.py`", walk, re.MULTILINE)
    return [(int(number), module) for number, module in items]


def marked(package: Path) -> list[tuple[int, str]]:
    """The modules whose docstring begins with a stage, in the order of the stages."""
    found = []
    for path in package.rglob("*.py"):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        stage = re.match(rf"Stage (\d+) of {len(STAGES)}: \S", first)
        if stage is not None:
            found.append((int(stage[1]), str(path.relative_to(package).with_suffix(""))))
    return sorted(found)


def test_the_files_of_the_main_path_say_their_stage() -> None:
    assert marked(PACKAGE) == list(enumerate(STAGES, 1))


def test_architecture_md_walks_the_same_stages() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

    assert documented(text) == marked(PACKAGE)


def test_a_stage_in_the_wrong_order_is_found(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text('"""Stage 2 of 10: reads."""\n', encoding="utf-8")
    (tmp_path / "second.py").write_text('"""Stage 1 of 10: decodes."""\n', encoding="utf-8")
    page = "## The walk of one fault\n\n1. `driver/gpuvitals/first.py` reads.\n2. `driver/gpuvitals/second.py` decodes.\n"

    assert documented(page) != marked(tmp_path)
