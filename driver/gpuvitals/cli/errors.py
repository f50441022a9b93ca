"""Bad input, told in one line, and the exit codes that several verbs share."""

INCOMPLETE = 3
"""The answer is incomplete: lines of a GPU driver were not understood."""


class UsageError(Exception):
    """The input is at fault. The message names the flag, or the file and line, or the field; exit code 2."""
