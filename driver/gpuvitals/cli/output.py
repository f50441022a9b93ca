"""Standard output that says by an error of its own that it can't be written, so that no other OSError is taken for that."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

NOT_WRITTEN = 1
CLOSED_PIPE = 141
"""As a shell shows a program that SIGPIPE ended."""


class OutputError(Exception):
    """Standard output can't be written. `code` is the exit code that a verb ends with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def checked_output() -> Iterator[None]:
    """Whatever is printed inside has been written at the end. Raises OutputError."""
    plain = sys.stdout
    if plain is None:
        raise OutputError("standard output is closed", NOT_WRITTEN)
    sys.stdout = cast(TextIO, _Checked(plain))
    try:
        try:
            yield
        finally:
            # What is left in the buffer has to fail here and not while Python ends.
            sys.stdout.flush()
    except OutputError:
        _drop(plain)
        raise
    finally:
        sys.stdout = plain


def complain(message: str) -> None:
    """Prints one line to standard error. If that can't be written either, the exit code has to do."""
    with suppress(OSError, ValueError, AttributeError):
        print(f"gpuvitals: {message}", file=sys.stderr, flush=True)


class _Checked:
    """The stream, with OutputError in place of the errors of writing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes. Raises OutputError."""
        with _told():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flushes. Raises OutputError."""
        with _told():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputError("standard output: the reader has closed the pipe", CLOSED_PIPE) from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OutputError(f"standard output: {why}", NOT_WRITTEN) from error


def _drop(stream: TextIO) -> None:
    """What Python would still flush at its end goes nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
