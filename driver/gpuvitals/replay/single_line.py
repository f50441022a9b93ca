"""Parses a single line without the rest of its log. Pure."""

from datetime import datetime

from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.journal import embedded
from gpuvitals.replay.log_line import ParsedLine, detected
from gpuvitals.replay.text_log import QUOTE


def single_line(line: bytes, latest: datetime) -> ParsedLine | None:
    """The parsed line; None if its format is unknown. `latest` determines the year of a time stamp without one."""
    text = b"".join(as_utf8((line.removesuffix(b"\r"),)))
    found = detected(text, latest)[0] or detected(text.lstrip(QUOTE), latest)[0]
    if found is not None or b"{" not in text:
        return found
    entry = embedded(text, latest)
    return None if entry is None else entry.line
