"""Converts logs saved as UTF-16 or with a byte order mark, as Windows shells do, to UTF-8. Pure."""

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain

_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_LOOK_BYTES = 64


def as_utf8(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The text as UTF-8 without a byte order mark. Other bytes pass unchanged."""
    stream, first = iter(blocks), b""
    while len(first) < _LOOK_BYTES and (block := next(stream, b"")):
        first += block
    name = _utf_16(first)
    whole = chain((first.removeprefix(codecs.BOM_UTF8),), stream)
    return whole if name is None else _decoded(whole, name)


def _utf_16(first: bytes) -> str | None:
    """The UTF-16 encoding, by its byte order mark or by the zero byte beside each ASCII letter."""
    marked = next((name for mark, name in _UTF_16.items() if first.startswith(mark)), None)
    if marked is not None or len(first) < _LOOK_BYTES:
        return marked
    odd, even = first[1:_LOOK_BYTES:2], first[:_LOOK_BYTES:2]
    if odd.count(0) > len(odd) // 2 and even.count(0) == 0:
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > len(even) // 2 and odd.count(0) == 0 else None


def _decoded(blocks: Iterable[bytes], name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(name)(errors="replace")
    is_first = True
    for block in chain(blocks, (b"",)):
        text = decoder.decode(block, final=not block)
        if is_first and text:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text.encode(errors="replace")
