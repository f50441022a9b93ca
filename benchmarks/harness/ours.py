"""gpuvitals: the agent's real process on scripted GPUs, with its kernel log in a FIFO.

A FIFO wakes its reader as /dev/kmsg does; a plain file would be polled every 50 ms.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence

from benchmarks.harness.lab import Lab
from benchmarks.harness.processes import STOP_SECONDS
from benchmarks.harness.side import new_place
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode

_XID = 95
"""An uncontained memory error: definitive, and unlike XID 79 it does not stop the agent's polls of the GPU, so that the
agent soon observes a reset."""

_OBSERVED_SECONDS = 0.7
"""Time for a requested poll, on a loaded machine too."""


class Ours:
    """The node agent, a Driver. Two settings differ from the defaults: no probation, and no limit on repairs."""

    name = "gpu.vitals.internal"

    def __init__(self, lab: Lab, devices: int = 8) -> None:
        self._lab = lab
        self.count = devices
        self.place = new_place(lab, "ours")
        self.gpus = ScriptedNode.create(self.place.root / "gpus", name=self.place.node, gpus=devices)
        self._broken: set[int] = set()
        self._sequence = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log_path = self.place.root / "kmsg"
        os.mkfifo(self._log_path)
        # Open for reading too: lines that are written while no agent runs wait for the next one.
        self._kernel_log = os.open(self._log_path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._config = self.place.root / "agent.yaml"
        self._config.write_text(
            json.dumps({"policy": {"probation_seconds": 0, "flap_repairs": 1_000}}), encoding="utf-8"
        )

    @property
    def pid(self) -> int:
        """The agent's parent process."""
        assert self._process is not None, "the agent does not run"
        return self._process.pid

    def start(self) -> int:
        """Starts the agent. The kernel kills it when this process ends in any way."""
        command = ["setpriv", "--pdeathsig", "KILL", "--"]
        command += [sys.executable, "-m", "gpuvitals.cli.main", "node", *self._flags()]
        with self._lab.log(self.place.node).open("ab") as log:
            at = time.monotonic_ns()
            self._process = subprocess.Popen(
                command,
                env=environment() | self._lab.service() | dict(self.gpus.environment()),
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        return at

    def stop(self) -> float:
        """SIGTERM."""
        if self._process is None:
            return 0.0
        process, self._process = self._process, None
        began = time.monotonic()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        return time.monotonic() - began

    def close(self) -> None:
        """Closes the kernel log."""
        os.close(self._kernel_log)

    def device(self, index: int) -> str:
        """The agent's name of the device, made from the bus id."""
        return "gpu-" + re.sub(r"[:.]", "-", self.gpus.gpus[index].bus_id.lower())

    def fault(self, index: int, claim: str = "") -> int:
        """Writes one XID line and returns the instant before. `claim` is not used: the agent knows its claims."""
        where = self.gpus.gpus[index].bus_id.rsplit(".", 1)[0]
        text = f"NVRM: Xid (PCI:{where}): {_XID}, pid='<unknown>', name=<unknown>, Uncontained: LTC TAG (0x2,0x0)"
        self._broken.add(index)
        return self.kernel_line(text)

    def kernel_line(self, text: str) -> int:
        """Appends one kernel record and returns the instant before."""
        self._sequence += 1
        microseconds = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        record = f"4,{self._sequence},{microseconds},-;{text}\n".encode("ascii")
        at = time.monotonic_ns()
        os.write(self._kernel_log, record)
        return at

    def off_bus(self, *indexes: int) -> None:
        """GPUs fall off the bus together: three kernel lines, an NVML event and a lost handle each."""
        for index in indexes:
            bus_id = self.gpus.gpus[index].bus_id
            self.kernel_line(f"NVRM: Xid (PCI:{bus_id.rsplit('.', 1)[0]}): 79, GPU has fallen off the bus.")
            self.kernel_line(f"NVRM: GPU {bus_id}: GPU has fallen off the bus.")
            self.kernel_line(f"NVRM: GPU {bus_id}: GPU serial number is {self.gpus.gpus[index].serial}.")
        for index in indexes:
            self.gpus.event(index, 79)
            self.gpus.lose(index)

    def repair(self, claims: Sequence[str]) -> None:
        """Resets the broken GPUs. The kernel log shows a reset: the driver lists the GPU again."""
        for index in self._broken:
            # ScriptedNode.reset would log to a plain file, which this agent does not read.
            where = self.gpus.gpus[index].bus_id.rsplit(".", 1)[0]
            self.kernel_line(f"NVRM: GPU at PCI:{where}: {self.gpus.gpus[index].uuid}")
            self.kernel_line(f"NVRM: GPU Board Serial Number: {self.gpus.gpus[index].serial}")
            self.gpus.event(index)
        time.sleep(_OBSERVED_SECONDS + random.uniform(0, 0.1))

    def _flags(self) -> list[str]:
        flags = {
            "--node-name": self.place.node,
            "--pod-uid": uuid.uuid4(),
            "--account-dir": self._lab.account,
            "--state-dir": self.place.data,
            "--registry-dir": self.place.registry,
            "--cdi-dir": self.place.cdi,
            "--driver-root": self.gpus.driver_root,
            "--dev-root": self.gpus.driver_root,
            "--sysfs-root": self.gpus.sysfs_root,
            "--kernel-log": self._log_path,
            "--boot-id-file": self.gpus.boot_id_file,
            "--config": self._config,
            "--nvml-backend": BACKEND,
        }
        return [str(part) for flag in flags.items() for part in flag]


def environment() -> dict[str, str]:
    """This process's variables for an agent as in the image: an installed package whose bytecode is compiled."""
    own = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    return {name: value for name, value in os.environ.items() if name not in own}
