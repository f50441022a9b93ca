"""Bad input, told in one line."""


class UsageError(Exception):
    """The input is at fault. The message names the flag, or the file and line, or the field; exit code 2."""
