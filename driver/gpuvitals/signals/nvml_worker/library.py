"""Loads NVML from the driver's directory, with the search that also finds the files of containers. Worker only.

The dynamic loader's search would stop at a directory or an empty file of that name, and would resolve an absolute link of
the driver root in the root of this container. It is used only if the driver root has no library.
"""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

import pynvml

from gpuvitals.driverfiles.place import place_in
from gpuvitals.driverfiles.search import NVML, Query, candidates, find_driver, places
from gpuvitals.driverfiles.tree import FileTree, query
from gpuvitals.signals.nvml_worker.protocol import LIBRARY_NOT_FOUND, NvmlFailure


def load(environment: Mapping[str, str] = os.environ) -> None:
    """Makes pynvml use the driver's NVML. Raises NvmlFailure that names every searched path."""
    place = place_in(environment)
    if place is None:
        return
    root, tree = place.root, FileTree(place.root)
    asked = query(place.proc_root, place.library_directories)
    installed = find_driver(tree, asked)
    refused = [f"{path}: {why}" for path, why in tree.troubles.items()]
    for found in candidates(tree, installed, NVML, asked):
        if found.flaw:
            continue
        try:
            pynvml.nvmlLib = ctypes.CDLL(os.path.join(root, found.path))
        except OSError as error:
            refused.append(f"{found.path}: {error}")
        else:
            return
    _load_by_loader(root, asked, [*installed.remarks, *refused])


def _load_by_loader(root: Path, asked: Query, passed_over: list[str]) -> None:
    """Uses the dynamic loader's search, for a library in this image or on LD_LIBRARY_PATH."""
    try:
        pynvml.nvmlLib = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        but = f"; passed over: {', '.join(passed_over)}" if passed_over else ""
        raise NvmlFailure(
            LIBRARY_NOT_FOUND,
            f"no libnvidia-ml.so.1 in driver root {root}{but}; searched {places(asked)}; and the loader: {error}",
        ) from error
