"""Device nodes of a scripted driver that a real runtime can inject."""

import os
import stat

from gpuvitals_sim.hardware.scripted_node import ScriptedNode


def make_device_nodes(node: ScriptedNode) -> None:
    """Makes every node of the driver's `dev` a character device, with the numbers of /dev/null."""
    for each in (node.driver_root / "dev").rglob("*"):
        if each.is_file():
            each.unlink()
            os.mknod(each, stat.S_IFCHR | 0o666, os.makedev(1, 3))
