"""Standard output with its own error for failed writes, so that they differ from every other OSError."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

NOT_WRITTEN = 1
CLOSED_PIPE = 141
"""The exit code that a shell reports for a program that SIGPIPE ended."""


class OutputError(Exception):
    """Standard output cannot be written. `code` is the exit code of the verb."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def checked_output() -> Iterator[None]:
    """Flushes everything that is printed inside. Raises OutputError."""
    plain = sys.stdout
    if plain is None:
        raise OutputError("standard output is closed", NOT_WRITTEN)
    sys.stdout = cast(TextIO, _Checked(plain))
    try:
        try:
            yield
        finally:
            # An error of the last flush must be raised here, not at the exit of Python.
            sys.stdout.flush()
    except OutputError:
        _drop(plain)
        raise
    finally:
        sys.stdout = plain


def complain(message: str) -> None:
    """Prints one line to standard error. If that fails too, only the exit code reports the error."""
    with suppress(OSError, ValueError, AttributeError):
        print(f"gpuvitals: {message}", file=sys.stderr, flush=True)


class _Checked:
    """The stream, with OutputError in place of the errors of writing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes. Raises OutputError."""
        with _output_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flushes. Raises OutputError."""
        with _output_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputError("standard output: the reader has closed the pipe", CLOSED_PIPE) from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OutputError(f"standard output: {why}", NOT_WRITTEN) from error


def _drop(stream: TextIO) -> None:
    """Redirects the stream to /dev/null, so that the flush at the exit of Python cannot fail."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
