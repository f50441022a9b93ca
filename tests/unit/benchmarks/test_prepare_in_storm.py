"""The storm of B6: it hangs one GPU and floods the log for as long as it lasts, and leaves both as they were."""

import time
from collections import Counter
from pathlib import Path

from benchmarks.prepare_in_storm import storm

from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.signals import moment


class Machine:
    """Scripted GPUs, and the lines that were logged."""

    def __init__(self, folder: Path) -> None:
        self.gpus = ScriptedNode.create(folder, name="n")
        self.lines: list[str] = []

    def kernel_line(self, text: str) -> int:
        self.lines.append(text)
        return time.monotonic_ns()


def test_a_storm_hangs_one_gpu_and_floods_the_log_about_another_until_it_is_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with storm(machine):
        time.sleep(0.3)
        hung = [gpu.hang_until > moment(0).at for gpu in machine.gpus.gpus]
    logged = len(machine.lines)
    time.sleep(0.05)

    assert hung == [False] * 7 + [True]
    assert len(machine.lines) == logged
    assert logged >= 20
    assert all(gpu.hang_until == 0.0 for gpu in machine.gpus.gpus)
    where = machine.gpus.gpus[6].bus_id.rsplit(".", 1)[0]
    assert all(line.startswith(f"NVRM: Xid (PCI:{where}): ") for line in machine.lines)
    codes = Counter(line.split("): ")[1].split(",")[0] for line in machine.lines)
    assert set(codes) == {"13", "31", "94", "43"}
