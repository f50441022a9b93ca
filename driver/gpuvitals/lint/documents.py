"""YAML with the line number of every value, including lines within block scalars.

The linter reads objects through these views. A field that is absent or has another type reads as empty, since Kubernetes
validates the schema itself.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import yaml

from gpuvitals.lint.findings import BadInput

_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_TRUE = ("true", "True", "TRUE")
_MERGES = 3


@dataclass(frozen=True, slots=True)
class View:
    """One value of a document, absent if `node` is None. `path` is the field in Kubernetes notation."""

    source: str
    path: str
    line: int
    node: yaml.Node | None

    def get(self, key: str) -> "View":
        """The field with that key. An absent field has the line of this view."""
        path = f"{self.path}.{key}" if self.path else key
        found = _field(self.node, key, _MERGES)
        if found is None:
            return View(self.source, path, self.line, None)
        return View(self.source, path, found[0].start_mark.line + 1, found[1])

    def at(self, *keys: str) -> "View":
        """The nested field with these keys."""
        view = self
        for key in keys:
            view = view.get(key)
        return view

    def items(self) -> Iterator["View"]:
        """The entries of a list; empty for any other value."""
        if isinstance(self.node, yaml.SequenceNode):
            for place, node in enumerate(self.node.value):
                yield View(self.source, f"{self.path}[{place}]", node.start_mark.line + 1, node)

    @property
    def is_present(self) -> bool:
        """Whether the field is present."""
        return self.node is not None

    @property
    def text(self) -> str:
        """The scalar as text; empty for any other value."""
        return str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""

    @property
    def is_string(self) -> bool:
        """Whether the value is a string, as opposed to a number or a boolean."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _STRING

    @property
    def is_true(self) -> bool:
        """Whether the value is the boolean true."""
        return self.text in _TRUE and not self.is_string

    def line_of(self, offset: int) -> int:
        """The 1-based line in the file of the character at `offset` of the text."""
        if not isinstance(self.node, yaml.ScalarNode):
            return self.line
        return _line_of(self.source, self.node, offset)


def documents(text: str) -> list[View]:
    """The objects in the text, without empty documents. Raises BadInput."""
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise _not_yaml(error) from error
    except RecursionError as error:
        raise BadInput("nested too deeply") from error
    views = []
    for node in nodes:
        if isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
            continue
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise BadInput("expected a Kubernetes object with apiVersion and kind", line)
        _refuse_doubled(node)
        views.append(View(text, "", line, node))
    return views


def _field(node: yaml.Node | None, key: str, merges: int) -> tuple[yaml.Node, yaml.Node] | None:
    """Key and value, including those of mappings merged with `<<`."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if isinstance(name, yaml.ScalarNode) and name.value == key and name.tag != _MERGE:
            return name, value
    if not merges:
        return None
    for name, value in node.value:
        if name.tag == _MERGE:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                found = _field(merged, key, merges - 1)
                if found is not None:
                    return found
    return None


def _refuse_doubled(root: yaml.Node) -> None:
    """Raises BadInput for a duplicate key, which YAML would resolve silently."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    raise BadInput(f"duplicate key {key.value!r}", key.start_mark.line + 1)
                if isinstance(key, yaml.ScalarNode):
                    keys.add(key.value)
                waiting.append(value)


def _line_of(source: str, node: yaml.ScalarNode, offset: int) -> int:
    """Finds the line by stepping through value and source together, which differ only in whitespace and quoting."""
    begin, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        begin = source.find("\n", begin, end) + 1 or end
    place = begin
    for character in node.value[: offset + 1]:
        if character.isspace():
            continue
        found = source.find(character, place, end)
        if found < 0:
            break
        place = found + 1
    return bisect_right(_line_starts(source), max(place - 1, begin))


def _line_starts(source: str) -> list[int]:
    return list(accumulate((len(line) for line in source.splitlines(keepends=True)), initial=0))


def _not_yaml(error: yaml.YAMLError) -> BadInput:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return BadInput(" ".join(f"not YAML: {problem}".split()), mark.line + 1 if mark is not None else 1)
