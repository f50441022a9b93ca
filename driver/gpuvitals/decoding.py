"""The words for JSON that does not fit: the field first, then what is wrong with it."""

import msgspec


def misfit(error: msgspec.DecodeError, whole: str) -> str:
    """`spec.mode: invalid enum value 'maybe'` for msgspec's text with its path at the end; `whole` names the document."""
    text, found, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".") if found else whole
    return f"{field or whole}: {text[:1].lower()}{text[1:]}"
