"""Draws docs/architecture.svg from the tree's imports and the layers of .importlinter. Run by `make architecture`.

Boxes are packages, rows are layers, arrows are imports. An arrow that follows from others (a over b, b over c, hence a over
c) is left out, and so are all arrows to the lowest row, which every layer may use: the picture shows the shape and not
every import. Circles are the stages of one signal, read from the modules that say "Stage n of 10". A package's subtitle
is the first clause of its docstring; the lowest row has none.
"""

import configparser
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
PRODUCT = "gpuvitals"
SIMULATION = "gpuvitals_sim"
_WIDTH, _MARGIN = 1000, 24
_BOX_HEIGHT, _ROW_STEP = 54, 88
_GAP = 26
_NAME_LEFT, _LETTER = 12, 8.3
_STAGE = re.compile(r'^"""Stage (\d+) of \d+')
_HEADER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
    "<title>Packages of gpuvitals, their imports, and the stages of one signal</title>",
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="#8a94a3"/></marker></defs>',
    '<rect width="100%" height="100%" fill="#ffffff"/>',
)

Edges = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Package:
    """A package as it is drawn: its number of modules, its subtitle, and the stages that happen in it."""

    modules: int
    subtitle: str
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A package at its place; coordinates in SVG units, `x` and `y` of the upper left corner."""

    name: str
    x: float
    y: float
    width: float
    package: "Package"


def layers(config: str) -> list[list[str]]:
    """The rows of packages from the layers contract, the top one first."""
    parser = configparser.ConfigParser()
    parser.read_string(config)
    rows = parser["importlinter:contract:layers"]["layers"].split("\n")
    return [
        [name.strip().removeprefix(f"{PRODUCT}.") for name in row.split("|")] for row in rows if row.strip()
    ]


def package_edges(packages: Iterable[str]) -> Edges:
    """Which package imports which, by the imports of their modules."""
    graph = grimp.build_graph(PRODUCT, SIMULATION)
    known = set(packages)
    edges: dict[str, set[str]] = {name: set() for name in known}
    for module in graph.modules:
        importer = _package(module)
        for imported in graph.find_modules_directly_imported_by(module):
            target = _package(imported)
            if importer in known and target in known and importer != target:
                edges[importer].add(target)
    return {name: frozenset(found) for name, found in edges.items()}


def reduced(edges: Edges) -> Edges:
    """The edges without those that a longer path implies. The graph has no cycle."""
    reach: dict[str, frozenset[str]] = {}

    def reachable(name: str) -> frozenset[str]:
        if name not in reach:
            reach[name] = edges[name].union(*(reachable(each) for each in edges[name]))
        return reach[name]

    return {
        name: frozenset(
            target
            for target in targets
            if not any(target in reachable(other) for other in targets - {target})
        )
        for name, targets in edges.items()
    }


def draw(rows: list[list[str]], edges: Edges, packages: Mapping[str, Package]) -> str:
    """The picture as SVG text."""
    boxes = {box.name: box for index, row in enumerate(rows) for box in _row(row, index, packages)}
    height = 2 * _MARGIN + (len(rows) - 1) * _ROW_STEP + _BOX_HEIGHT + 34
    lines = [line.format(width=_WIDTH, height=height) for line in _HEADER]
    lines += [_arrow(boxes[name], boxes[target]) for name in sorted(edges) for target in sorted(edges[name])]
    lines += [line for box in boxes.values() for line in _box(box)]
    caption = "Rows: layers, imports point down. Small numbers: modules. Circles: the stages of one signal."
    lines.append(f'<text x="{_MARGIN}" y="{height - 16}" font-size="13" fill="#5b6573">{caption}</text>')
    return "\n".join([*lines, "</svg>", ""])


def picture() -> str:
    """The picture of the tree as it is."""
    rows = [[SIMULATION], *layers((ROOT / ".importlinter").read_text(encoding="utf-8"))]
    names = [name for row in rows for name in row]
    edges = package_edges(name for row in rows[:-1] for name in row)
    lowest = frozenset(rows[-1])
    return draw(rows, reduced(edges), {name: _described(name, is_lowest=name in lowest) for name in names})


def main() -> int:
    """Writes the picture."""
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


def _package(module: str) -> str:
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == PRODUCT and rest else top


def _described(name: str, *, is_lowest: bool) -> Package:
    folder = ROOT / "sim" / SIMULATION if name == SIMULATION else ROOT / "driver" / PRODUCT / name
    modules = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    first = {path: path.read_text(encoding="utf-8").partition("\n")[0] for path in modules}
    head = first[modules[0] if len(modules) == 1 else folder / "__init__.py"]
    subtitle = "" if is_lowest else re.split(r"[:.]", head.strip('"'), maxsplit=1)[0]
    stages = sorted(int(found[1]) for line in first.values() if (found := _STAGE.match(line)))
    return Package(modules=len(modules), subtitle=subtitle, stages=tuple(stages))


def _row(names: list[str], index: int, packages: Mapping[str, Package]) -> list[Box]:
    """The boxes of one row, centred; their width follows their texts."""
    widths = [_box_width(name, packages[name]) for name in names]
    gap = min(_GAP, (_WIDTH - 2 * _MARGIN - sum(widths)) / max(len(names) - 1, 1))
    x = (_WIDTH - sum(widths) - gap * (len(names) - 1)) / 2
    y = _MARGIN + index * _ROW_STEP
    boxes = []
    for name, width in zip(names, widths, strict=True):
        boxes.append(Box(name, x, y, width, packages[name]))
        x += width + gap
    return boxes


def _box_width(name: str, package: Package) -> float:
    return max(
        _NAME_LEFT + _LETTER * len(name) + 24 * len(package.stages) + 22, 24 + 5.9 * len(package.subtitle)
    )


def _arrow(upper: Box, lower: Box) -> str:
    x, y = upper.x + upper.width / 2, upper.y + _BOX_HEIGHT
    to_x, to_y = lower.x + lower.width / 2, lower.y
    bend = (to_y - y) / 2
    path = f"M{x:.0f},{y:.0f} C{x:.0f},{y + bend:.0f} {to_x:.0f},{to_y - bend:.0f} {to_x:.0f},{to_y - 1:.0f}"
    return f'<path d="{path}" fill="none" stroke="#8a94a3" stroke-width="1.3" marker-end="url(#arrow)"/>'


def _box(box: Box) -> list[str]:
    package = box.package
    fill = "#fff4df" if box.name == SIMULATION else "#e8f1fb" if package.stages else "#f3f5f7"
    baseline = box.y + (24 if package.subtitle else 33)
    lines = [
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{_BOX_HEIGHT}" rx="7" '
        f'fill="{fill}" stroke="#5b6573"/>',
        f'<text x="{box.x + _NAME_LEFT:.0f}" y="{baseline:.0f}" font-size="15" fill="#1d2733">{escape(box.name)}</text>',
        f'<text x="{box.x + _NAME_LEFT:.0f}" y="{box.y + 43:.0f}" font-size="11" fill="#5b6573">'
        f"{escape(package.subtitle)}</text>",
        f'<text x="{box.x + box.width - 7:.0f}" y="{box.y + 13:.0f}" font-size="10" fill="#5b6573" '
        f'text-anchor="end">{package.modules}</text>',
    ]
    for place, stage in enumerate(package.stages):
        x = box.x + _NAME_LEFT + 16 + _LETTER * len(box.name) + 24 * place
        lines.append(f'<circle cx="{x:.0f}" cy="{box.y + 19:.0f}" r="10" fill="#2563a8"/>')
        lines.append(
            f'<text x="{x:.0f}" y="{box.y + 23:.0f}" font-size="11" fill="#ffffff" text-anchor="middle">{stage}</text>'
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
