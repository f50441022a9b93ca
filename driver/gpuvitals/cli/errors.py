"""The error for bad input, and the exit codes that several verbs share."""

INCOMPLETE = 3
"""Exit code of an incomplete result: lines of a GPU driver were not understood."""


class UsageError(Exception):
    """The input is at fault. The message names the flag, or the file and line, or the field; exit code 2."""
