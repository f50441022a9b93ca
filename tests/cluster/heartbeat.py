"""A hang of the agent's loop, made from outside: the agent's program knows nothing of it.

Python runs a `sitecustomize` that it finds on its path. This one holds the thread of the agent's loop, told by its name,
for as long as a file is there; every other thread goes on.
"""

from pathlib import Path

_PROGRAM = """
import os
import threading
import time

_SWITCH = {switch!r}


def _hold(frame, event, argument):
    while threading.current_thread().name == "agent" and os.path.exists(_SWITCH):
        time.sleep(0.1)


threading.settrace(_hold)
"""


class Heartbeat:
    """A folder for PYTHONPATH, and the switch in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._switch = folder / "hold"
        program = _PROGRAM.format(switch=str(self._switch))
        (folder / "sitecustomize.py").write_text(program, encoding="utf-8")

    def stop(self) -> None:
        """The loop stands still from its next step on."""
        self._switch.touch()

    def go_on(self) -> None:
        self._switch.unlink()
