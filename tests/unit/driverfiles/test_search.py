"""The pure search over trees in memory, and the reader of real folders."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.driverfiles.search import REQUIRED, Query, binary, find_driver, flaw, library, resolve
from gpuvitals.driverfiles.tree import FileTree, loaded_version
from support.fakes.driver_roots import elf, put
from support.long_runs import share

NAMES = ("usr", "lib64", "lib", "nvidia", "current", "libcuda.so.1", "libnvidia-ml.so.1", "run", "driver")


@dataclass
class Made:
    """A tree in memory: links, files and the folders above them."""

    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def link(self, path: str) -> str | None:
        return self.links.get(path)

    def is_folder(self, path: str) -> bool:
        return path == "" or any(each.startswith(f"{path}/") for each in (*self.links, *self.files))

    def is_file(self, path: str) -> bool:
        return path in self.files

    def names(self, path: str) -> frozenset[str]:
        above = f"{path}/" if path else ""
        every = (each[len(above) :] for each in (*self.links, *self.files) if each.startswith(above))
        return frozenset(each.partition("/")[0] for each in every)

    def head(self, path: str) -> bytes:
        return self.files.get(path, b"")[:64]

    def size(self, path: str) -> int:
        return len(self.files.get(path, b""))


paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
targets = st.lists(st.sampled_from((*NAMES, "..", "..", ".", "")), min_size=1, max_size=6).map("/".join)
trees = st.builds(
    Made,
    links=st.dictionaries(paths, st.one_of(targets, targets.map(lambda text: f"/{text}")), max_size=8),
    files=st.dictionaries(paths, st.sampled_from([b"", b"text", elf()]), max_size=8),
)


def check(tree: Made, path: str, base: str) -> None:
    """A resolved path has no link and no `..`, stays below its base, and a search over any tree ends with files."""
    found = resolve(tree, f"{base}/{path}" if base else path, base)
    if found is not None:
        steps = found.split("/") if found else []
        assert ".." not in steps
        inside = len(base.split("/")) if base else 0
        assert steps[:inside] == (base.split("/") if base else [])
        assert all(tree.link("/".join(steps[:end])) is None for end in range(inside + 1, len(steps) + 1))
    asked = Query(machine="x86_64", loaded="1.2", extra=("usr/lib64/..", "/lib"))
    installed = find_driver(tree, asked)
    for name in REQUIRED:
        real = library(tree, installed, name, asked)
        assert real is None or tree.is_file(real)
    program = binary(tree, installed, "nvidia-smi")
    assert program is None or tree.is_file(program)


def running(examples: int) -> Callable[[], None]:
    checked = given(trees, targets, st.sampled_from(["", "run", "usr/lib64"]))(check)
    return settings(max_examples=examples, deadline=None)(checked)


def test_no_link_leaves_its_root_and_no_tree_breaks_the_search() -> None:
    """Finding P4: whatever links a node has."""
    running(500)()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_link_leaves_its_root_at_length() -> None:
    running(share(10_000))()


@pytest.mark.parametrize(
    ("head", "size", "says"),
    [
        (b"", 0, "is empty or can't be read"),
        (b"#!/bin/sh\n", 10, "is not a library"),
        (elf("x86_64")[:19], 19, "is not a library"),
        (elf("x86_64")[:40], 40, "is truncated"),
        (elf("x86_64"), 64, ""),
        (elf("aarch64"), 64, "is a library for a machine other than x86_64"),
        (elf("i386", bits=32), 64, "is a library for a machine other than x86_64"),
        (elf("x86_64")[:40] + (900).to_bytes(8, "little") + bytes(10) + b"\x40\0\x02\0\0\0", 1027, "is truncated"),
        (elf("x86_64")[:40] + (900).to_bytes(8, "little") + bytes(10) + b"\x40\0\x02\0\0\0", 1028, ""),
    ],
    ids=["empty", "script", "stub", "header", "sound", "arm", "32 bits", "one byte short", "whole"],
)  # fmt: skip
def test_a_header_shows_whether_a_loader_takes_the_file(head: bytes, size: int, says: str) -> None:
    assert flaw(head, size, "x86_64") == says


def test_on_a_machine_that_is_not_known_any_library_is_taken() -> None:
    assert flaw(elf("aarch64"), 64, "riscv64") == ""


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan  9 02:32:11 UTC 2025", "570.86.15"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  Release Build  (a@b)  Mon",
            "595.45.04",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65  Release Build", "580.65"),
        ("GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_loaded_version_is_read_from_the_drivers_line(tmp_path: Path, line: str, version: str) -> None:
    put(tmp_path / "driver/nvidia/version", f"{line}\nGCC version:  gcc version 11.4.0\n".encode())
    assert loaded_version(tmp_path) == version


def test_without_a_driver_there_is_no_version(tmp_path: Path) -> None:
    assert loaded_version(tmp_path) == ""


def test_a_pipe_of_a_librarys_name_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "libcuda.so.1")
    tree = FileTree(tmp_path)
    assert not tree.is_file("libcuda.so.1")
    assert tree.head("libcuda.so.1") == b""
    assert tree.names("libcuda.so.1") == frozenset()
