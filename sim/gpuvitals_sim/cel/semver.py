"""Semantic versions, compared as semver 2.0.0 says.

Place in the chain: values of version attributes and of the CEL function `semver`. Source: semver.org, sections 9 to 11.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_NUMBER = r"(0|[1-9]\d*)"
_FORM = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_DOTS = 2
_CORE = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Semver:
    """One version; build metadata is dropped, it has no rank."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[object, ...]:
        """Orders versions: a release is above its pre-releases, numbers are below words."""
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.prerelease)
        return (self.major, self.minor, self.patch, not self.prerelease, parts)

    def __str__(self) -> str:
        """The version without build metadata."""
        tail = "-" + ".".join(self.prerelease) if self.prerelease else ""
        return f"{self.major}.{self.minor}.{self.patch}{tail}"


@lru_cache(maxsize=1024)
def parse_semver(text: str, normalize: bool = False) -> Semver:
    """The version. With `normalize`, `v1.2` and `01.2.3` are read too. Raises ValueError."""
    wanted = _normalized(text) if normalize else text
    match = _FORM.fullmatch(wanted)
    if match is None:
        raise ValueError(_complaint(wanted))
    major, minor, patch = (int(match[number]) for number in (1, 2, 3))
    prerelease = tuple(match[4].split(".")) if match[4] else ()
    return Semver(major=major, minor=minor, patch=patch, prerelease=prerelease)


def _complaint(text: str) -> str:
    """Describes the first of three parts that is not a plain number, in Kubernetes' words."""
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
