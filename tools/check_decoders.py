"""Fails if msgspec could build the type information of a class on a thread. Run by `make check`.

msgspec builds that information at the first use of a type. Other threads can read it half built, which crashes the process
(docs/adr/039-decoders-at-import.md). So decoders are made at module level, and no call names a type.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (Path("driver/gpuvitals"), Path("sim/gpuvitals_sim"))

CONVERTS = {
    "config.py": "the agent reads its configuration before it starts a thread",
    "cli/explain.py": "the verb has one thread",
    "signals/recording.py": "the replay has one thread; the agent writes recordings and reads none",
    "node/lenient_decode.py": "node/memory_format has built these types at import",
    "hardware/gpu_changes.py": "the decoder of hardware/state_file.py has finished these types at import",
}
"""The modules that may call msgspec.convert, which takes no type that was built before, and the reason."""

_FORMATS = ("json", "msgpack", "yaml", "toml")
_DECODES = frozenset(f"msgspec.{form}.decode" for form in _FORMATS)
_DECODERS = frozenset(f"msgspec.{form}.Decoder" for form in _FORMATS)


def violations(source: str, module: str) -> list[tuple[int, str]]:
    """Line and message of each violation in one module's text; `module` is its path below the package."""
    tree = ast.parse(source)
    names = _names(tree)
    found: list[tuple[int, str]] = []
    for call, in_function in _calls(tree, in_function=False):
        name = _dotted(call.func, names)
        if name in _DECODES and (len(call.args) > 1 or any(each.arg != "strict" for each in call.keywords)):
            found.append((call.lineno, f"{name} with a type; use a decoder of the module"))
        if name in _DECODERS and in_function:
            found.append((call.lineno, f"{name} inside a function; make it at module level"))
        if name == "msgspec.convert" and module not in CONVERTS:
            found.append((call.lineno, "msgspec.convert; decode with a decoder of the module"))
    for line, name in _handed_on(tree, names):
        found.append((line, f"{name} without a call; its later caller would pass a type"))
    if not module.startswith("cli/"):
        found.extend(
            (line, "import inside a function; a decoder of that module would be made on the caller's thread")
            for line in _late_imports(tree)
        )
    return sorted(found)


def main(root: Path = ROOT) -> int:
    """Prints a line for each violation. Returns 0 if there is none, else 1."""
    code = 0
    modules = {
        path: folder for source in SOURCES for folder in [root / source] for path in folder.rglob("*.py")
    }
    for path, folder in sorted(modules.items()):
        module = path.relative_to(folder).as_posix()
        if module.startswith("proto/"):
            continue
        for line, text in violations(path.read_text(encoding="utf-8"), module):
            print(f"{path.relative_to(root)}:{line}: {text}")
            code = 1
    return code


def _names(tree: ast.Module) -> dict[str, str]:
    """Every name that an import of msgspec binds, with its full name."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                top = each.name.partition(".")[0]
                names[each.asname or top] = each.name if each.asname else top
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.update({each.asname or each.name: f"{node.module}.{each.name}" for each in node.names})
    return {name: full for name, full in names.items() if full.partition(".")[0] == "msgspec"}


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    if isinstance(node, ast.Subscript):
        return _dotted(node.value, names)
    return ""


def _calls(node: ast.AST, *, in_function: bool) -> Iterator[tuple[ast.Call, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Call):
            yield child, inside
        yield from _calls(child, in_function=inside)


def _handed_on(tree: ast.Module, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    """References, other than calls, to functions that take a type."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in called:
            name = _dotted(node, names)
            if name in _DECODES or name == "msgspec.convert":
                yield node.lineno, name


def _late_imports(tree: ast.Module) -> Iterator[int]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    own = any(each.name.partition(".")[0] == "gpuvitals" for each in node.names)
                else:
                    own = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gpuvitals")
                if own:
                    yield node.lineno


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
