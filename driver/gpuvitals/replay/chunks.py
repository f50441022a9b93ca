"""Splits blocks of bytes into lines or into records of `journalctl -o export`, in bounded memory. Pure."""

from collections.abc import Iterable, Iterator

MAX_LINE = 1 << 17
"""Bytes kept of a line, the rest is dropped. No kernel record is this long, even as JSON of the journal."""
_FIELD_LIMIT = 1 << 16
"""Bytes kept of a field's value. Kernel messages are far shorter."""
_SIZE_BYTES = 8


class ExportError(ValueError):
    """The journal export is malformed. `line` is 1-based and counts newlines outside of binary values."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def lines_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their line ending. Lines are truncated to MAX_LINE bytes."""
    rest = b""
    for block in blocks:
        # After a power loss, files that were being written can contain blocks of zeros.
        *whole, rest = (rest + block.replace(b"\0", b"")).split(b"\n")
        for line in whole:
            yield line[:MAX_LINE].removesuffix(b"\r")
        if len(rest) > MAX_LINE:
            rest = rest[: MAX_LINE + 1]
    if rest:
        yield rest[:MAX_LINE].removesuffix(b"\r")


def exported(blocks: Iterable[bytes]) -> Iterator[tuple[int, dict[bytes, bytes]]]:
    """Each record of a journal export with the line of its first field. Raises ExportError.

    A record ends with an empty line. A binary value is size-prefixed: `KEY`, newline, the size as 8 bytes
    little-endian, the value, newline. Source: systemd, docs/JOURNAL_EXPORT_FORMATS.md.
    """
    source = _Source(blocks)
    record: dict[bytes, bytes] = {}
    began = 1
    while (line := source.line()) is not None:
        if not line:
            if record:
                yield began, record
            record = {}
            continue
        if not record:
            began = source.number
        key, separator, value = line.partition(b"=")
        record[key[:_FIELD_LIMIT]] = (value if separator else source.binary())[:_FIELD_LIMIT]
    if record:
        yield began, record


class _Source:
    """A buffered byte source. `number` is the 1-based number of the last line read."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._buffer = bytearray()
        self._at = 0
        self.number = 0

    def line(self) -> bytes | None:
        """The next line, None at the end."""
        kept = b""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            kept = (kept + self._buffer[self._at :])[: MAX_LINE + 1]
            if not self._more():
                self.number += bool(kept)
                return kept[:MAX_LINE] or None
        found = kept + bytes(self._buffer[self._at : end])
        self._at = end + 1
        self.number += 1
        return found[:MAX_LINE]

    def binary(self) -> bytes:
        """A size-prefixed value, truncated to _FIELD_LIMIT bytes. Raises ExportError if the value is cut off."""
        size = int.from_bytes(self._take(_SIZE_BYTES, _SIZE_BYTES), "little")
        value = self._take(size, _FIELD_LIMIT)
        if self._take(1, 1) != b"\n":
            raise ExportError(self.number, f"a value of {size} bytes does not end with a newline")
        return value

    def _take(self, size: int, keep: int) -> bytes:
        kept = b""
        while size > 0:
            if self._at >= len(self._buffer) and not self._more():
                raise ExportError(self.number, "ends within a value")
            part = bytes(self._buffer[self._at : self._at + size])
            self._at += len(part)
            size -= len(part)
            kept = (kept + part)[:keep] if len(kept) < keep else kept
        return kept

    def _more(self) -> bool:
        """Loads the next block into the buffer, which the caller has consumed. False at the end of the input."""
        block = next(self._blocks, None)
        self._buffer, self._at = bytearray(block or b""), 0
        return block is not None
