"""Links by which the loader finds NVML below the driver root, wherever that driver keeps its libraries.

A library path that led into the driver root itself would hand this image's Python the C library of another
distribution. So each folder of that path holds one link, and each link is one place where NVML may be. A link that
leads nowhere is skipped by the loader, and looked at again by each new worker: the driver may come later.
"""

import sys
from pathlib import Path

DRIVER_ROOT = Path("/driver-root")
LINKS = Path("/opt/gpuvitals/nvml")
DIRECTORIES = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib/wsl/lib",
    "usr/lib",
)
"""As the agent searches for what it mounts into containers."""
LIBRARY = "libnvidia-ml.so.1"


def search_path(links: Path = LINKS) -> str:
    """The value of LD_LIBRARY_PATH."""
    return ":".join(str(links / str(number)) for number in range(len(DIRECTORIES)))


def make_links(links: Path = LINKS, driver_root: Path = DRIVER_ROOT) -> None:
    """Makes the folders and their links. Raises OSError."""
    for number, directory in enumerate(DIRECTORIES):
        folder = links / str(number)
        folder.mkdir(parents=True)
        (folder / LIBRARY).symlink_to(driver_root / directory / LIBRARY)


if __name__ == "__main__":
    make_links(*(Path(argument) for argument in sys.argv[1:]))
