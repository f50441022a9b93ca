"""JSON that spans several lines or holds many entries in one: cut into its entries, in bounded memory. Pure.

`dmesg -J` and the tools of cloud providers print one array, alone or within an object; `journalctl -o json-pretty`
prints objects over several lines.
"""

import re
from collections.abc import Iterable, Iterator

MAX_ENTRY = 1 << 20
"""Bytes of one entry: no record of a log is as long."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|["{}\[\]]', re.DOTALL)
_WRAPPED = re.compile(rb'\s*\{\s*"[A-Za-z_]{1,64}"\s*:\s*\[\s*(?:\{|\]|\Z)')


class DocumentError(ValueError):
    """The document does not go on as JSON must. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def entries(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each object of the log with the line that it begins on. Raises DocumentError."""
    return _Cutter().cut(blocks)


def is_wrapped(start: bytes) -> bool:
    """Whether the text begins as an object that holds the entries in an array."""
    return _WRAPPED.match(start) is not None


class _Cutter:
    """Finds the objects that are entries by counting brackets; what is in them is not looked at."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._depth = 0
        self._wrappers: int | None = None
        self._began: int | None = None
        self._line = 1

    def cut(self, blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Each entry, as soon as it is whole."""
        for block in blocks:
            self._buffer += block
            yield from self._found()
            self._forget()
            if len(self._buffer) > MAX_ENTRY + len(block):
                raise DocumentError(self._line, f"an entry of more than {MAX_ENTRY} bytes is none of a log")
        if self._began is not None or self._depth:
            raise DocumentError(self._line, "is no JSON: it ends within an entry")

    def _found(self) -> Iterator[tuple[int, bytes]]:
        if self._wrappers is None:
            # An object whose first value is an array is a wrapper, as is an array.
            self._wrappers = 2 if _WRAPPED.match(self._buffer) else int(self._buffer.lstrip()[:1] == b"[")
        for token in _TOKEN.finditer(self._buffer, self._at):
            text = token[0]
            if text == b'"':
                return  # the string goes on in the next block
            self._at = token.end()
            if text in (b"{", b"["):
                if text == b"{" and self._depth == self._wrappers and self._began is None:
                    self._began = token.start()
                self._depth += 1
            elif text in (b"}", b"]"):
                self._depth -= 1
                if self._depth < 0:
                    raise DocumentError(self._line_at(token.start()), "is no JSON: a bracket closes nothing")
                if self._began is not None and self._depth == self._wrappers:
                    yield (
                        self._line_at(self._began),
                        self._buffer[self._began : token.end()],
                    )
                    self._began = None

    def _line_at(self, at: int) -> int:
        return self._line + self._buffer.count(b"\n", 0, at)

    def _forget(self) -> None:
        keep = self._at if self._began is None else self._began
        self._line = self._line_at(keep)
        self._buffer = self._buffer[keep:]
        self._at -= keep
        self._began = None if self._began is None else 0
