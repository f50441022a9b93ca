"""Decodes JSON that others wrote, and names the field at fault."""

from typing import TypeVar

import msgspec

_MAX_TEXT = 500

T = TypeVar("T")


def decoded(decoder: "msgspec.json.Decoder[T]", text: bytes) -> T:
    """The document. Raises msgspec.DecodeError for whatever is wrong with it.

    By itself msgspec raises other errors for text that is no UTF-8 and for nesting without end.
    """
    try:
        return decoder.decode(text)
    except RecursionError as error:
        raise msgspec.DecodeError("is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"is not UTF-8: {error.reason} at byte {error.start}") from error


def misfit(error: msgspec.DecodeError, whole: str) -> str:
    """`spec.mode: invalid enum value 'maybe'` for msgspec's text with its path at the end; `whole` names the document."""
    text, found, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".") if found else whole
    # msgspec quotes the value that it refuses, whatever its length.
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    return f"{field or whole}: {shown[:1].lower()}{shown[1:]}"
