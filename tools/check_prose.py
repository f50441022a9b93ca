"""Counts headless clauses in the project's prose and fails above 3 per 1,000 words. Run by `make check`.

A headless clause begins with what, who, whom or where in place of a noun ("what it was told"). Every use of the four
words counts: a regular expression cannot parse grammar, and other projects of this kind stay near 1 per 1,000 words
with the same count. `python tools/check_prose.py PATH...` prints the lines to rewrite.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3.0
"""Clauses per 1,000 words."""

AREAS = (
    "driver/gpuvitals",
    "sim/gpuvitals_sim",
    "docs",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "deploy/helm",
)
_SUFFIXES = {".py", ".md", ".yaml", ".tpl", ".txt"}
_GENERATED = {"proto"}
_HEADS = re.compile(r"\b(?:what|who|whom|where)\b", re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_SENTENCE = 4
"""The fewest words of a string literal that is read as prose."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of prose: a docstring, a comment, a string that a user may read, or a line of a page."""

    line: int
    text: str

    @property
    def words(self) -> int:
        return len(self.text.split())

    @property
    def clauses(self) -> int:
        return len(_HEADS.findall(self.text))


def passages(path: Path) -> list[Passage]:
    """The prose of one file. Inline code and code blocks of pages are left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [*_strings(ast.parse(text)), *_comments(text)]
    if path.suffix == ".md":
        text = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
        return [Passage(line, each) for line, each in enumerate(text.splitlines(), 1) if each.strip()]
    lines = ((line, each.partition("# ")[2]) for line, each in enumerate(text.splitlines(), 1))
    return [Passage(line, each) for line, each in lines if each]


def files(area: Path) -> list[Path]:
    """The files of an area that hold prose; generated code is left out."""
    found = [area] if area.is_file() else sorted(area.rglob("*"))
    return [path for path in found if path.suffix in _SUFFIXES and not _GENERATED & set(path.parts)]


def rate(found: list[Passage]) -> float:
    """Headless clauses per 1,000 words; 0 for no words."""
    words = sum(passage.words for passage in found)
    return 1000 * sum(passage.clauses for passage in found) / words if words else 0.0


def main(arguments: list[str]) -> int:
    """Returns 0 if every area is within the limit, else 1. For paths it also prints the lines with such clauses."""
    code = 0
    for name in arguments or AREAS:
        by_file = {path: passages(path) for path in files(ROOT / name)}
        found = rate([passage for each in by_file.values() for passage in each])
        if arguments:
            for path, each in by_file.items():
                for passage in each:
                    if passage.clauses:
                        print(f"{path.relative_to(ROOT)}:{passage.line}: {' '.join(passage.text.split())}")
        if found > LIMIT or arguments:
            print(f"{name}: {found:.1f} headless clauses per 1,000 words (at most {LIMIT:.0f})")
        code |= found > LIMIT
    return code


def _strings(tree: ast.Module) -> Iterator[Passage]:
    """Docstrings, and other strings long enough to be a sentence."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and len(node.value.split()) >= _SENTENCE
        ):
            yield Passage(node.lineno, node.value)


def _comments(text: str) -> Iterator[Passage]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(token.start[0], token.string.lstrip("# "))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
