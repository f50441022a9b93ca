"""The picture of the architecture shows layers, imports and stages; `make generated` finds an outdated one."""

from xml.etree import ElementTree

from tools import generate_architecture

LAYERS = """
[importlinter:contract:layers]
layers =
    gpuvitals.top
    gpuvitals.left | gpuvitals.right
    gpuvitals.base
"""


def test_rows_are_the_layers_of_the_contract() -> None:
    assert generate_architecture.layers(LAYERS) == [["top"], ["left", "right"], ["base"]]


def test_an_import_that_a_longer_path_implies_is_not_drawn() -> None:
    edges = {"top": frozenset({"left", "base"}), "left": frozenset({"base"}), "base": frozenset()}

    assert generate_architecture.reduced(edges) == {"top": {"left"}, "left": {"base"}, "base": frozenset()}


def test_boxes_have_names_stages_and_arrows() -> None:
    packages = {
        "top": generate_architecture.Package(modules=2, subtitle="Verbs & <flags>", stages=()),
        "base": generate_architecture.Package(modules=1, subtitle="", stages=(1, 2)),
    }
    text = generate_architecture.draw([["top"], ["base"]], {"top": frozenset({"base"})}, packages)

    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    arrows = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("marker-end")]
    assert {"top", "base", "Verbs & <flags>", "1", "2"} <= set(words)
    assert len(arrows) == 1
