"""YAML text as plain values, with the line of every place in it.

Place in the chain: under the loader. Refused: aliases (which can expand without bound), duplicate keys, deep nesting.
"""

from dataclasses import dataclass

import yaml

Place = tuple[str | int, ...]
Value = dict[str, object] | list[object] | str | int | float | bool | None


class DocumentError(ValueError):
    """The text is invalid or unsupported YAML; `line` is 1-based."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """`value` is the content; `locate` returns the line of a place in it."""

    value: Value
    root: yaml.Node

    def locate(self, place: Place) -> tuple[int, Place]:
        """The 1-based line of a place and the part of it that exists; a missing field has its parent's line."""
        node, known = self.root, []
        line = node.start_mark.line + 1
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line + 1
            known.append(part)
        return line, tuple(known)


def read_document(body: bytes) -> Document:
    """The one document in `body`. Raises DocumentError."""
    try:
        loader = _Loader(body.decode())
    except UnicodeDecodeError as error:
        raise DocumentError("not UTF-8 text", body[: error.start].count(b"\n") + 1) from error
    except yaml.YAMLError as error:
        raise _not_yaml(error) from error
    try:
        root = loader.get_single_node()
        if root is None:
            raise DocumentError("empty file", 1)
        return Document(loader.construct_document(root), root)
    except yaml.YAMLError as error:
        raise _not_yaml(error) from error
    except RecursionError as error:
        raise DocumentError("nested too deeply", 1) from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise DocumentError(f"alias *{event.anchor}: aliases are not read", line)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise DocumentError(f"key {key.value!r} is there twice", key.start_mark.line + 1)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _not_yaml(error: yaml.YAMLError) -> DocumentError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return DocumentError(" ".join(f"not YAML: {problem}".split()), mark.line + 1 if mark is not None else 1)
