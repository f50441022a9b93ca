"""The picture of the architecture shows layers, imports and stages; `make generated` finds an outdated one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_architecture", ROOT / "tools" / "generate_architecture.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


TOOL = load()
LAYERS = """
[importlinter:contract:layers]
layers =
    gpuvitals.top
    gpuvitals.left | gpuvitals.right
    gpuvitals.base
"""


def test_rows_are_the_layers_of_the_contract() -> None:
    assert TOOL.layers(LAYERS) == [["top"], ["left", "right"], ["base"]]


def test_an_import_that_a_longer_path_implies_is_not_drawn() -> None:
    edges = {"top": frozenset({"left", "base"}), "left": frozenset({"base"}), "base": frozenset()}

    assert TOOL.reduced(edges) == {"top": {"left"}, "left": {"base"}, "base": frozenset()}


def test_boxes_have_names_stages_and_arrows() -> None:
    packages = {
        "top": TOOL.Package(modules=2, subtitle="Verbs & <flags>", stages=()),
        "base": TOOL.Package(modules=1, subtitle="", stages=(1, 2)),
    }
    text = TOOL.draw([["top"], ["base"]], {"top": frozenset({"base"})}, packages)

    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    arrows = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("marker-end")]
    assert {"top", "base", "Verbs & <flags>", "1", "2"} <= set(words)
    assert len(arrows) == 1
