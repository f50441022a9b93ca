"""The Go peer: a driver on the upstream helper that gets its faults as orders and detects none."""

import json
import uuid
from collections.abc import Sequence

from benchmarks.harness.lab import Lab
from benchmarks.harness.processes import Answering, Json
from benchmarks.harness.side import new_place


class Peer:
    """A Driver. It publishes the devices of gpuvitals, so that both slices are equally large."""

    name = "peer.vitals.internal"

    def __init__(self, lab: Lab, devices: Sequence[Json]) -> None:
        self._lab = lab
        self.count = len(devices)
        self.place = new_place(lab, "peer")
        self._names = [str(device["name"]) for device in devices]
        self._faulty: list[str] = []
        self._program: Answering | None = None
        self.place.data.mkdir(parents=True)
        self._devices = self.place.root / "devices.json"
        self._devices.write_text(json.dumps(devices), encoding="utf-8")

    @property
    def pid(self) -> int:
        """The driver's process."""
        return self._running.program.process.pid

    def start(self) -> int:
        """Starts the driver; it ends when its input closes."""
        flags = {
            "driver": self.name,
            "node": self.place.node,
            "uid": uuid.uuid4(),
            "kubeconfig": self._lab.server.kubeconfig,
            "registry": self.place.registry,
            "data": self.place.data,
            "cdi": self.place.cdi,
            "devices": self._devices,
        }
        command = [str(self._lab.programs["driver"]), *(f"--{name}={value}" for name, value in flags.items())]
        self._program = Answering(command, self._lab.log(self.place.node), lambda message: False)
        return self._program.program.started_at

    def stop(self) -> float:
        """SIGTERM."""
        if self._program is None:
            return 0.0
        program, self._program = self._program, None
        return program.program.stop()

    def close(self) -> None:
        """Nothing to close beside the process."""

    def device(self, index: int) -> str:
        """The name of the device, which gpuvitals chose."""
        return self._names[index]

    def fault(self, index: int, claim: str = "") -> int:
        """Orders one taint. Returns the instant before the call of the upstream helper."""
        self._faulty.append(self._names[index])
        return self._order(index, claim)

    def repair(self, claims: Sequence[str]) -> None:
        """Orders the removal of every taint and a healthy status of every claim."""
        self._faulty = []
        for index, claim in enumerate(claims or [""]):
            self._order(index, claim)

    @property
    def _running(self) -> Answering:
        assert self._program is not None, "the peer does not run"
        return self._program

    def _order(self, index: int, claim: str) -> int:
        order = {"faulty": self._faulty, "claim": claim, "device": self._names[index]}
        return int(self._running.ask(order)["at"])


def devices_of(slices: Sequence[Json]) -> list[Json]:
    """The devices of slices, in a driver's form."""
    devices: list[Json] = [device for item in slices for device in item["spec"].get("devices") or []]
    return devices
