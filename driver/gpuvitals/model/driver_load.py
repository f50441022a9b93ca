"""Names of one load of the NVIDIA driver: `595.45.04#8231`, or `595.45.04` if sysfs was not readable.

A name without a number is no evidence of a reload, since an unreadable directory does not show a change.
"""


def is_reload(before: str, after: str) -> bool:
    """Whether the driver was reloaded between the two; False if either name is empty."""
    if not before or not after:
        return False
    version_before, _, number_before = before.partition("#")
    version_after, _, number_after = after.partition("#")
    return version_before != version_after or bool(
        number_before and number_after and number_before != number_after
    )


def known_load(before: str, after: str) -> str:
    """The name to keep after `after` was read: of two names of the same load, the one with the number."""
    return before if before.startswith(f"{after}#") else after
