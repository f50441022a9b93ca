"""The fenced blocks of the guides, and a shell that runs them."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block. `language` is empty if the page names none: a command, or its output."""

    page: str
    language: str
    text: str

    @property
    def title(self) -> str:
        """Its first line."""
        return self.text.splitlines()[0]


def blocks(page: str) -> list[Block]:
    """The blocks of a page, given by its path below the repository, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(page, language, dedent(body)) for _, language, body in _FENCE.findall(text)]


class Guide:
    """A page that a test follows; at the end `left` are the blocks that it did not take."""

    def __init__(self, page: str) -> None:
        self.blocks = blocks(page)
        self.left = list(self.blocks)

    def take(self, start: str) -> Block:
        """The one block that begins so."""
        (found,) = (each for each in self.blocks if each.text.startswith(start))
        self.left = [each for each in self.left if each is not found]
        return found


class Shell:
    """Runs blocks in the repository's root, with its own home and the given programs first on the PATH."""

    def __init__(self, folder: Path, programs: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """`programs` are the lines of shell scripts by the name that the pages use."""
        self._home, path = folder / "home", folder / "bin"
        self._home.mkdir(parents=True)
        path.mkdir()
        for name, script in programs.items():
            (path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (path / name).chmod(0o755)
        self._environment = {
            "HOME": str(self._home),
            "PATH": f"{path}:{os.environ['PATH']}",
            **environment,
        }

    def start(self, text: str) -> subprocess.Popen[str]:
        """Starts a block that runs until it is stopped."""
        return subprocess.Popen(
            ["bash", "-ec", text],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, text: str, seconds: float = 100.0) -> str:
        """Runs a block and returns its output; fails with its output."""
        with self.start(text) as process:
            try:
                printed, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                raise
        assert process.returncode == 0, f"{text}\n{printed}"
        return printed
