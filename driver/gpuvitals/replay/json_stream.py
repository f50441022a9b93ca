"""Splits JSON that spans several lines, or an array of entries, into the entries, in bounded memory. Pure.

`dmesg -J` and the tools of cloud providers print one array, alone or inside an object. `journalctl -o json-pretty`
prints each object over several lines.
"""

import re
from collections.abc import Iterable, Iterator

MAX_ENTRY = 1 << 20
"""The most bytes of one entry. No log record is this long."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|["{}\[\]]', re.DOTALL)
_WRAPPED = re.compile(rb'\s*\{\s*"[A-Za-z_]{1,64}"\s*:\s*\[\s*(?:\{|\]|\Z)')


class JsonStreamError(ValueError):
    """The JSON is malformed. `line` is 1-based."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def entries(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each entry with its 1-based line number. Raises JsonStreamError."""
    return _EntrySplitter().cut(blocks)


def is_wrapped(start: bytes) -> bool:
    """Whether the text is an object that contains an array of entries."""
    return _WRAPPED.match(start) is not None


class _EntrySplitter:
    """Finds the entries by counting brackets. Does not parse their contents."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._depth = 0
        self._wrappers: int | None = None
        self._began: int | None = None
        self._line = 1

    def cut(self, blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yields each entry once it is complete."""
        for block in blocks:
            self._buffer += block
            yield from self._found()
            self._drop_consumed()
            if len(self._buffer) > MAX_ENTRY + len(block):
                raise JsonStreamError(
                    self._line, f"an entry of more than {MAX_ENTRY} bytes is too long for a log"
                )
        if self._began is not None or self._depth:
            raise JsonStreamError(self._line, "is not JSON: it ends inside an entry")

    def _found(self) -> Iterator[tuple[int, bytes]]:
        if self._wrappers is None:
            # Both an array and an object whose first value is an array wrap the entries.
            self._wrappers = 2 if _WRAPPED.match(self._buffer) else int(self._buffer.lstrip()[:1] == b"[")
        for token in _TOKEN.finditer(self._buffer, self._at):
            text = token[0]
            if text == b'"':
                return  # the string continues in the next block
            self._at = token.end()
            if text in (b"{", b"["):
                if text == b"{" and self._depth == self._wrappers and self._began is None:
                    self._began = token.start()
                self._depth += 1
            elif text in (b"}", b"]"):
                self._depth -= 1
                if self._depth < 0:
                    raise JsonStreamError(
                        self._line_at(token.start()), "is not JSON: unmatched closing bracket"
                    )
                if self._began is not None and self._depth == self._wrappers:
                    yield (
                        self._line_at(self._began),
                        self._buffer[self._began : token.end()],
                    )
                    self._began = None

    def _line_at(self, at: int) -> int:
        return self._line + self._buffer.count(b"\n", 0, at)

    def _drop_consumed(self) -> None:
        keep = self._at if self._began is None else self._began
        self._line = self._line_at(keep)
        self._buffer = self._buffer[keep:]
        self._at -= keep
        self._began = None if self._began is None else 0
