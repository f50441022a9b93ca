"""Names of one load of the NVIDIA driver: `595.45.04#8231`, or `595.45.04` where sysfs could not be read.

Without its number a name says nothing about a reload: a folder that can't be read is no evidence that anything changed.
"""


def is_reload(before: str, after: str) -> bool:
    """Whether the driver was loaded anew between the two; False where nothing is known of one of them."""
    if not before or not after:
        return False
    version_before, _, number_before = before.partition("#")
    version_after, _, number_after = after.partition("#")
    return version_before != version_after or bool(
        number_before and number_after and number_before != number_after
    )


def known_load(before: str, after: str) -> str:
    """The name to remember once `after` was read: the fuller one of two names of the same load."""
    return before if before.startswith(f"{after}#") else after
