"""Finds the driver's libraries and programs in a folder tree. Pure: the tree is a Protocol.

Links are followed inside the tree, never through the root of the process. Among several files with a name, a sound
library for this machine is preferred, then one of the loaded driver's version, then the order of `layouts`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from gpuvitals.driverfiles.layouts import (
    BINARY_DIRECTORIES,
    BRANCHED_DIRECTORIES,
    FIRST_BRANCH,
    HOMES,
    LIBRARY_DIRECTORIES,
    Home,
)

CUDA = ("libcuda", "1")
NVML = ("libnvidia-ml", "1")
REQUIRED = (CUDA, NVML)
"""The libraries that every container with a GPU needs. Name, and the number in the soname."""

_MAX_LINKS = 16
_VERSION = re.compile(r"\.so\.(\d+(?:\.\d+)+)$", re.ASCII)
_ELF_MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183}
"""Source: System V ABI, e_machine of EM_X86_64 and EM_AARCH64."""
HEAD_BYTES = 64
"""Size of the header of a 64-bit ELF file, which `flaw` reads."""
_HEAD_32 = 20


class Tree(Protocol):
    """A folder tree. Paths are relative to its root and have no links among their folders; "" is the root itself."""

    def link(self, path: str) -> str | None:
        """The target of a link; None for other files."""

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder."""

    def is_file(self, path: str) -> bool:
        """Whether the path is a regular file."""

    def names(self, path: str) -> frozenset[str]:
        """The names in a folder; none if it can't be read."""

    def head(self, path: str) -> bytes:
        """The first HEAD_BYTES of a file; fewer if it is shorter, none if it can't be read."""

    def size(self, path: str) -> int:
        """The size of a file in bytes, 0 if it can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file with the name of a library. `path` has no links. `flaw` is the reason why it can't be loaded, "" for none."""

    path: str
    is_file: bool = True
    flaw: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The parameters of a search.

    `machine` is the processor type, as `uname -m` prints it. `loaded` is the version of the loaded kernel module, "" if
    it is unknown. `extra` are library folders that are searched first.
    """

    machine: str
    loaded: str = ""
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """An existing library folder: its path without links, the start of its absolute links, and its names."""

    path: str
    base: str
    names: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installed driver: its home and its library folders. `remarks` name the files that were skipped, with the reason."""

    home: Home
    folders: tuple[Folder, ...]
    remarks: tuple[str, ...]

    @property
    def base(self) -> str:
        """The folder at which absolute links start."""
        return self.home.path if self.home.own_root else ""


def resolve(tree: Tree, path: str, base: str = "") -> str | None:
    """The path without links, below `base`, at which absolute links start. None for a loop of links."""
    steps = _steps(path)
    inside = _steps(base)
    done: list[str] = list(inside) if steps[: len(inside)] == inside else []
    steps = steps[len(done) :]
    links = 0
    while steps:
        step = steps.pop(0)
        if step == "..":
            done = done[:-1] if len(done) > len(inside) else done
            continue
        target = tree.link("/".join((*done, step)))
        if target is None:
            done.append(step)
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        if target.startswith("/"):
            done = list(inside)
        steps = _steps(target) + steps
    return "/".join(done)


def find_driver(tree: Tree, query: Query) -> Installation:
    """The installation for NVML and containers. Without one, the first existing home, or the root."""
    extra = tuple("/".join(_steps(each)) for each in query.extra)
    homes = ((Home(path="", directories=extra),) if extra else ()) + HOMES
    best: tuple[tuple[int, bool, int], Installation] | None = None
    remarks: list[str] = []
    for home in homes:
        installed = _installation(tree, home)
        if installed is None:
            continue
        found = [candidates(tree, installed, name, query) for name in REQUIRED]
        remarks += [f"{each.path} {each.flaw}" for listed in found for each in listed if each.flaw]
        first = [listed[0] for listed in found if listed]
        rank = (
            sum(not each.flaw for each in first),
            bool(query.loaded) and any(each.version == query.loaded for each in first),
            sum(each.is_file for each in first),
        )
        if best is None or rank > best[0]:
            best = rank, installed
    chosen = best[1] if best is not None else Installation(home=Home(path=""), folders=(), remarks=())
    return Installation(home=chosen.home, folders=chosen.folders, remarks=tuple(dict.fromkeys(remarks)))


def candidates(
    tree: Tree, installed: Installation, name: tuple[str, str | None], query: Query
) -> list[Candidate]:
    """All files of a library in an installation, the best first. `name` is the stem and the soname's number, if any."""
    found: dict[str, Candidate] = {}
    for folder in installed.folders:
        for each in _names(folder, *name):
            named = f"{folder.path}/{each}"
            real = resolve(tree, named, folder.base)
            if real is None or not tree.is_file(real):
                found[named] = Candidate(path=named, is_file=False, flaw="is not a file")
            elif real not in found:
                version = _VERSION.search(real)
                found[real] = Candidate(
                    path=real,
                    flaw=flaw(tree.head(real), tree.size(real), query.machine),
                    version="" if version is None else version[1],
                )

    def rank(one: Candidate) -> tuple[bool, bool, bool]:
        return bool(one.flaw), not one.is_file, bool(query.loaded) and one.version != query.loaded

    return sorted(found.values(), key=rank)


def library(
    tree: Tree, installed: Installation, name: tuple[str, str | None], query: Query, *, sound: bool = True
) -> str | None:
    """The path of a library's file, without links. With `sound` False, for simulations, also a file that can't be loaded."""
    listed = candidates(tree, installed, name, query)
    return next((each.path for each in listed if each.is_file and not (sound and each.flaw)), None)


def binary(tree: Tree, installed: Installation, name: str) -> str | None:
    """The path of a program's file, without links."""
    for directory in BINARY_DIRECTORIES:
        real = resolve(tree, _join(installed.home.path, directory, name), installed.base)
        if real is not None and tree.is_file(real):
            return real
    return None


def places(query: Query) -> str:
    """All searched folders for an error message: the homes, and the folders below each of them."""
    branched = [f"{each}/*" for each in BRANCHED_DIRECTORIES]
    extra = f"in {', '.join(query.extra)}, then " if query.extra else ""
    homes = ", ".join(f"/{home.path}" for home in HOMES)
    return f"{extra}below {homes}, in each of them in {', '.join((*LIBRARY_DIRECTORIES, *branched))}"


def flaw(head: bytes, size: int, machine: str) -> str:
    """The reason why a file of `size` bytes that begins with `head` is not a library for `machine`; "" if it is one.

    Source: System V ABI, "ELF Header": the section table is at the end of the file, so a truncated file lacks it. A
    process that loads such a file ends with SIGBUS.
    """
    if not head:
        return "is empty or can't be read"
    if head[:4] != b"\x7fELF" or len(head) < _HEAD_32:
        return "is not a library"
    wanted = _ELF_MACHINES.get(machine)
    if wanted is not None and (head[4] != 2 or int.from_bytes(head[18:20], "little") != wanted):
        return f"is a library for a machine other than {machine}"
    if len(head) < HEAD_BYTES:
        return "is truncated"
    sections, length, count = (int.from_bytes(head[a:b], "little") for a, b in ((40, 48), (58, 60), (60, 62)))
    return "is truncated" if size < sections + length * count else ""


def _installation(tree: Tree, home: Home) -> Installation | None:
    """The home with its library folders; None if it does not exist."""
    real = resolve(tree, home.path)
    if real is None or not tree.is_folder(real):
        return None
    here = Home(path=real, own_root=home.own_root, directories=home.directories)
    base = real if home.own_root else ""
    folders: dict[str, Folder] = {}
    for directory in _directories(tree, here, base):
        found = resolve(tree, directory, base)
        if found is not None and found not in folders and tree.is_folder(found):
            folders[found] = Folder(path=found, base=base, names=tree.names(found))
    return Installation(home=here, folders=tuple(folders.values()), remarks=())


def _directories(tree: Tree, home: Home, base: str) -> Iterator[str]:
    if home.directories:
        yield from home.directories
        return
    for directory in LIBRARY_DIRECTORIES:
        yield _join(home.path, directory)
    for directory in BRANCHED_DIRECTORIES:
        above = resolve(tree, _join(home.path, directory), base)
        if above is not None and tree.is_folder(above):
            branches = tree.names(above)
            # The newest branch first: `tesla-535` before `tesla-470`.
            for branch in sorted(branches, key=lambda name: (name == FIRST_BRANCH, name), reverse=True):
                yield f"{above}/{branch}"


def _names(folder: Folder, stem: str, number: str | None) -> list[str]:
    """The names of a library in a folder: its soname, then its files with a version, the newest first."""
    soname = f"{stem}.so.{number}"
    listed = [soname] if number is not None and soname in folder.names else []
    pattern = re.compile(re.escape(stem) + _VERSION.pattern, re.ASCII)
    versioned = [name for name in folder.names if name != soname and pattern.fullmatch(name)]
    return [*listed, *sorted(versioned, key=version_key, reverse=True)]


def version_key(name: str) -> list[int]:
    """Sorts file names by the version at their end."""
    found = _VERSION.search(name)
    return [int(part) for part in found[1].split(".")] if found is not None else []


def _steps(path: str) -> list[str]:
    return [step for step in path.split("/") if step not in ("", ".")]


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
