"""How a person starts this program again: the word that a printed command begins with."""

import os
import shutil
import sys
from pathlib import Path


def command(*, anywhere: bool = False) -> str:
    """`gpuvitals` where the shell finds this very program, else the path to it, relative where that is shorter.

    `anywhere` is for a command that is pasted into another terminal, which has a folder of its own.
    """
    here = Path(sys.argv[0])
    found = shutil.which("gpuvitals")
    if here.name != "gpuvitals" or not here.exists() or (found is not None and here.samefile(found)):
        return "gpuvitals"
    return os.path.abspath(here) if anywhere else min(os.path.relpath(here), os.path.abspath(here), key=len)
