"""Parses JSON that others wrote, with one kind of error. Light: the sockets open before msgspec is imported."""

import json


def json_value(text: str | bytes) -> object:
    """The value of a JSON text. Raises ValueError for whatever is wrong with it, nesting without end included."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
