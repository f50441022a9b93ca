"""Splits a CEL expression into tokens.

Source: google/cel-spec doc/langdef.md, "Syntax" and "String and Bytes Values".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_SPACE = re.compile(r"(?:[ \t\r\n\f]|//[^\n]*)+")
_NUMBER = re.compile(
    r"0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+\.[0-9]+|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|[0-9]+[uU]?"
)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED_FIELD = re.compile(r"`([A-Za-z0-9_.\-/ ]+)`")
_OPERATOR = re.compile(r"&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}]")
_STRING = re.compile(
    r"""(?P<prefix>[rRbB]{0,2})(?P<quote>\"\"\"|'''|"|')""",
)
_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>[abfnrtv\\?"'`])|[xX](?P<byte>[0-9a-fA-F]{2})|u(?P<short>[0-9a-fA-F]{4})"""
    r"""|U(?P<long>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<bad>.|\Z))""",
    re.DOTALL,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_MAX_DIGITS = 40
_MAX_CODE_POINT = 0x10FFFF


class SyntaxProblem(ValueError):
    """The text is not a CEL expression; `at` is the offset of the invalid token."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class TokenKind(Enum):
    """The kind of a token. FIELD is a name in backticks."""

    WORD = "word"
    FIELD = "field"
    VALUE = "value"
    OPERATOR = "operator"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token at an offset. `text` is the source text; `value` is the decoded value of a VALUE."""

    kind: TokenKind
    text: str
    at: int
    value: "int | float | str | bytes" = ""


def tokens(text: str) -> Iterator[Token]:
    """The tokens in order, END last. Raises SyntaxProblem."""
    at = 0
    while at < len(text):
        space = _SPACE.match(text, at)
        if space is not None:
            at = space.end()
            continue
        token, at = _token(text, at)
        yield token
    yield Token(TokenKind.END, "the end", len(text))


def _token(text: str, at: int) -> tuple[Token, int]:
    opening = _STRING.match(text, at)
    if opening is not None:
        return _string(text, at, opening)
    number = _NUMBER.match(text, at)
    if number is not None:
        return Token(TokenKind.VALUE, number[0], at, _number(number[0], at)), number.end()
    word = _WORD.match(text, at)
    if word is not None:
        return Token(TokenKind.WORD, word[0], at), word.end()
    quoted = _QUOTED_FIELD.match(text, at)
    if quoted is not None:
        return Token(TokenKind.FIELD, quoted[1], at), quoted.end()
    operator = _OPERATOR.match(text, at)
    if operator is None:
        raise SyntaxProblem(f"unexpected character {text[at]!r}", at)
    return Token(TokenKind.OPERATOR, operator[0], at), operator.end()


def _number(text: str, at: int) -> int | float:
    if len(text) > _MAX_DIGITS:
        raise SyntaxProblem("a number with too many digits", at)
    bare = text.rstrip("uU")
    if bare[:2].lower() == "0x":
        return int(bare, 16)
    return int(bare) if bare.isdigit() else float(bare)


def _string(text: str, at: int, opening: re.Match[str]) -> tuple[Token, int]:
    prefix, quote = opening["prefix"].lower(), opening["quote"]
    raw = "r" in prefix
    end = opening.end()
    while not text.startswith(quote, end):
        if end >= len(text) or (len(quote) == 1 and text[end] in "\r\n"):
            raise SyntaxProblem("unterminated string", at)
        end += 1 if raw or text[end] != "\\" else 2
    body = text[opening.end() : end]
    decoded = body if raw else _ESCAPE.sub(lambda found: _unescaped(found, opening.end()), body)
    value = decoded.encode(errors="replace") if "b" in prefix else decoded
    end += len(quote)
    return Token(TokenKind.VALUE, text[at:end], at, value), end


def _unescaped(found: re.Match[str], start: int) -> str:
    if found["bad"] is not None:
        raise SyntaxProblem(f"unknown escape {found[0]!r}", start + found.start())
    if found["plain"] is not None:
        return _PLAIN.get(found["plain"], found["plain"])
    if found["octal"] is not None:
        return chr(int(found["octal"], 8))
    code = int(found["byte"] or found["short"] or found["long"], 16)
    if code > _MAX_CODE_POINT or 0xD800 <= code <= 0xDFFF:
        raise SyntaxProblem(f"the escape {found[0]!r} is not a valid character", start + found.start())
    return chr(code)
