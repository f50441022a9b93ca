"""The first word of a printed command: the name or path by which the user can start this program again."""

import os
import shutil
import sys
from pathlib import Path


def command(*, anywhere: bool = False) -> str:
    """`gpuvitals` if the shell finds this program by that name, else its path, relative if that is shorter.

    `anywhere`: the command may be pasted into a terminal with another working directory, so the path is absolute.
    """
    here = Path(sys.argv[0])
    found = shutil.which("gpuvitals")
    if here.name != "gpuvitals" or not here.exists() or (found is not None and here.samefile(found)):
        return "gpuvitals"
    return os.path.abspath(here) if anywhere else min(os.path.relpath(here), os.path.abspath(here), key=len)
