"""The report as a file, without identifiers of a board, a claim or a host."""

import json
import re
from pathlib import Path
from typing import Any

FORMAT = 1

_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_SERIAL = "serial"
_SHORTEST = 6
"""A shorter "serial number" is a placeholder such as 0, which is also a common value."""
_UNSAFE = re.compile(r"[^a-z0-9]+")


class IdentityLeft(Exception):
    """The report still has an identifier of a board."""


def without_identity(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a placeholder for each UUID and serial number. Raises IdentityLeft."""
    serials = sorted({each for each in _serials(document) if len(each) >= _SHORTEST}, key=len, reverse=True)
    text = json.dumps(_unnumbered(document))
    for number, serial in enumerate(serials):
        text = text.replace(serial, f"<serial {number}>")
    known: dict[str, str] = {}

    def placeholder(found: re.Match[str]) -> str:
        return known.setdefault(found[0].lower(), f"{found[1]}-{len(known):08d}-0000-0000-0000-000000000000")

    text = _UUID.sub(placeholder, text)
    if any(serial in text for serial in serials):
        raise IdentityLeft("a serial number is left in the report")
    cleaned: dict[str, Any] = json.loads(text)
    return cleaned


def stored(document: dict[str, Any], folder: Path) -> Path:
    """Writes the report to a file named after model and driver. Returns the path."""
    gpus = document["nvml"]["gpus"]
    product = next((gpu["facts"]["name"] for gpu in gpus if "facts" in gpu), "unknown")
    driver = document["nvml"].get("driver", {}).get("driver_version", "unknown")
    name = "-".join(_UNSAFE.sub("-", each.lower()).strip("-") for each in (product, driver))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _unnumbered(value: Any) -> Any:
    """The value with every serial number of a GPU's facts emptied."""
    if isinstance(value, dict):
        return {key: "" if key == _SERIAL else _unnumbered(inner) for key, inner in value.items()}
    return [_unnumbered(each) for each in value] if isinstance(value, list) else value


def _serials(value: Any) -> list[str]:
    """The serial numbers in a document, at any depth."""
    if isinstance(value, dict):
        own = value.get(_SERIAL)
        found = [own] if isinstance(own, str) and own else []
        return found + [each for inner in value.values() for each in _serials(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in _serials(inner)]
    return []
