"""The size of the node image's packages, which docs/guides/install.md names."""

import compileall
import re
from pathlib import Path

from support.environments import AGENT_LOCK, ROOT, Environment, new_environment

LIMIT_MB = 40
GUIDE = (ROOT / "docs" / "guides" / "install.md").read_text(encoding="utf-8")


def megabytes(folder: Path) -> float:
    """The sizes of all files, as a registry or `du --apparent-size` adds them."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def test_the_packages_of_the_image_have_the_size_that_the_guide_names(tmp_path: Path, product: Path) -> None:
    """With bytecode, since the image has it: its root is read-only."""
    environment: Environment = new_environment(tmp_path / "gpuvitals", AGENT_LOCK)
    environment.install(product)
    assert compileall.compile_dir(environment.packages, quiet=1, workers=1)
    size = megabytes(environment.packages)

    named = re.search(r"take (\d+) MB", GUIDE)
    assert named is not None
    assert size <= LIMIT_MB
    assert abs(size - int(named[1])) <= 2, f"{size:.1f} MB"
