"""One line by itself, in any form of log that is read line by line. Pure."""

from datetime import datetime

from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.journal import embedded
from gpuvitals.replay.log_line import AnyLine, sniffed
from gpuvitals.replay.text_log import QUOTE


def one_line(line: bytes, latest: datetime) -> AnyLine | None:
    """What the line holds; None where it has none of the forms. `latest` settles the year of a stamp without one."""
    text = b"".join(as_utf8((line.removesuffix(b"\r"),)))
    found = sniffed(text, latest)[0] or sniffed(text.lstrip(QUOTE), latest)[0]
    if found is not None or b"{" not in text:
        return found
    entry = embedded(text, latest)
    return None if entry is None else entry.line
