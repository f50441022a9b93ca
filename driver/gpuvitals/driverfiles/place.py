"""The paths at which the driver is searched, passed to child processes in environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = "GPUVITALS_DRIVER_ROOT"
_PROC = "GPUVITALS_PROC_ROOT"
_FOLDERS = "GPUVITALS_DRIVER_LIBRARIES"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPlace:
    """The driver root, the root of /proc, and the library folders below the driver root that are searched first."""

    root: Path
    proc_root: Path = Path("/proc")
    library_directories: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The paths as variables for the environment of a child process."""
        return {
            _ROOT: str(self.root),
            _PROC: str(self.proc_root),
            _FOLDERS: ":".join(self.library_directories),
        }


def place_in(environment: Mapping[str, str]) -> DriverPlace | None:
    """The paths in an environment; None if it has none."""
    root = environment.get(_ROOT, "")
    if not root:
        return None
    return DriverPlace(
        root=Path(root),
        proc_root=Path(environment.get(_PROC) or "/proc"),
        library_directories=tuple(each for each in environment.get(_FOLDERS, "").split(":") if each),
    )
