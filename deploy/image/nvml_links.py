"""Makes links by which programs of the image load NVML from below the driver root. The agent's worker needs no link.

A library path into the driver root itself would give this image's Python the C library of another distribution. So each
folder of the path holds one link, to one possible place of NVML. The loader skips a dangling link. If a driver is there
already, there is one link, to the library that the agent would choose.
"""

import sys
from pathlib import Path

from gpuvitals.driverfiles.layouts import LIBRARY_DIRECTORIES
from gpuvitals.driverfiles.search import NVML, candidates, find_driver
from gpuvitals.driverfiles.tree import FileTree, query

DRIVER_ROOT = Path("/driver-root")
LINKS = Path("/opt/gpuvitals/nvml")
DIRECTORIES = LIBRARY_DIRECTORIES[:8]
"""The common ones only: the loader searches each of them for every library of every program."""
LIBRARY = "libnvidia-ml.so.1"


def search_path(links: Path = LINKS) -> str:
    """The value of LD_LIBRARY_PATH."""
    return ":".join(str(links / str(number)) for number in range(len(DIRECTORIES)))


def make_links(links: Path = LINKS, driver_root: Path = DRIVER_ROOT) -> None:
    """Creates the folders and their links. Raises OSError."""
    found = _found(driver_root)
    targets = [found] if found else [f"{directory}/{LIBRARY}" for directory in DIRECTORIES]
    for number in range(len(DIRECTORIES)):
        (links / str(number)).mkdir(parents=True)
    for number, target in enumerate(targets):
        (links / str(number) / LIBRARY).symlink_to(driver_root / target)


def _found(driver_root: Path) -> str:
    tree, wanted = FileTree(driver_root), query(Path("/proc"))
    places = candidates(tree, find_driver(tree, wanted), NVML, wanted)
    return next((place.path for place in places if not place.flaw), "")


if __name__ == "__main__":
    make_links(*(Path(argument) for argument in sys.argv[1:]))
