"""Semantic versions as Kubernetes reads them: parsed and compared by the `semver` library, refused in Kubernetes' words.

Place in the chain: values of version attributes and of the CEL function `semver`.
Source: semver.org 2.0.0; kubernetes/apiserver pkg/cel/library/semverlib.go (normalization), blang/semver (texts).
"""

import re
from functools import lru_cache

from semver import Version

_DOTS = 2
_CORE = re.compile(r"[0-9.]+")


@lru_cache(maxsize=1024)
def parse_semver(text: str, normalize: bool = False) -> Version:
    """The version without its build metadata, which has no rank. Raises ValueError.

    With `normalize`, `v1.2` and `01.2.3` are read too.
    """
    wanted = _normalized(text) if normalize else text
    try:
        return Version.parse(wanted).replace(build=None)
    except ValueError as error:
        raise ValueError(_complaint(wanted)) from error


def _complaint(text: str) -> str:
    """Describes the first of the three parts that is not a plain number, as Kubernetes does."""
    parts = text.split(".", _DOTS)
    if len(parts) <= _DOTS:
        return "No Major.Minor.Patch elements found"
    parts[_DOTS] = re.split(r"[-+]", parts[_DOTS])[0]
    for name, part in zip(("major", "minor", "patch"), parts, strict=True):
        if not part.isdecimal() or not part.isascii():
            return f'Invalid character(s) found in {name} number "{part}"'
        if len(part) > 1 and part.startswith("0"):
            return f'{name.capitalize()} number must not contain leading zeroes "{part}"'
    return f"{text!r} is no semantic version"


def _normalized(text: str) -> str:
    bare = text.removeprefix("v")
    core = _CORE.match(bare)
    if core is None:
        return bare
    parts = [part.lstrip("0") or "0" for part in core[0].split(".")]
    parts += ["0"] * (3 - len(parts))
    return ".".join(parts) + bare[core.end() :]
