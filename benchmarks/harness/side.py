"""A measured driver on its own node, with its kubelet. Both sides run the same steps."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from benchmarks.harness.kubelet import Kubelet
from benchmarks.harness.lab import CLAIMS, Lab, tainted
from benchmarks.harness.processes import Json, LabError, wait_until

PUBLISH_SECONDS = 30.0
_HEALED_SECONDS = 4.0
_HEAL_TRIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node's name and folder. The folder's path is short, since a Unix socket's path has at most 108 characters."""

    node: str
    root: Path

    @property
    def registry(self) -> Path:
        """The kubelet's folder of registration sockets."""
        return self.root / "registry"

    @property
    def cdi(self) -> Path:
        """The folder of CDI files."""
        return self.root / "cdi"

    @property
    def data(self) -> Path:
        """The driver's folder."""
        return self.root / "plugin"


def new_place(lab: Lab, kind: str) -> Place:
    """A Node object and its folders."""
    node = lab.new_name(kind)
    place = Place(node=node, root=lab.folder / node)
    for folder in (place.registry, place.cdi):
        folder.mkdir(parents=True)
    lab.create_node(node)
    return place


class Driver(Protocol):
    """One driver's process. Devices are numbered from 0; instants are nanoseconds of CLOCK_MONOTONIC."""

    name: str
    count: int
    place: Place

    @property
    def pid(self) -> int:
        """The running process."""
        ...

    def start(self) -> int:
        """Starts the process and returns the instant, without waiting. May be repeated after `stop`."""
        ...

    def stop(self) -> float:
        """Sends SIGTERM and returns the seconds to the exit; 0 if no process runs."""
        ...

    def close(self) -> None:
        """Releases its resources beside the process."""
        ...

    def device(self, index: int) -> str:
        """A device's name."""
        ...

    def fault(self, index: int, claim: str = "") -> int:
        """Breaks one device and returns the instant. `claim` names the claim that holds it, if any."""
        ...

    def repair(self, claims: Sequence[str]) -> None:
        """Repairs the broken devices, once. `claims` are the claims that hold the devices, one each."""
        ...


class Side:
    """Context manager over a driver, its kubelet and its claims. `up` starts the driver."""

    def __init__(self, lab: Lab, driver: Driver) -> None:
        self.lab, self.driver, self.node = lab, driver, driver.place.node
        self.claims: list[Json] = []
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        registry, log = self.driver.place.registry, self.lab.log(f"kubelet of {self.node}")
        self.kubelet = Kubelet(self.lab.programs["kubelet"], registry, log)
        self._undo.callback(self.driver.close)
        self._undo.callback(self.kubelet.stop)
        self._undo.callback(self.driver.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def up(self) -> None:
        """Starts the driver and waits until it is registered and all its devices are published."""
        self.driver.start()
        self.kubelet.register()
        wait_until(f"{self.node}: {self.driver.count} devices", self.is_published, PUBLISH_SECONDS)

    def is_published(self) -> bool:
        """Whether every device is in a slice and none of them is tainted."""
        items = self.lab.slices(self.node)
        found = sum(len(item["spec"].get("devices") or []) for item in items)
        return found == self.driver.count and not any(tainted(item) for item in items)

    def allocate(self, count: int | None = None) -> None:
        """Allocates one claim for each of the first `count` devices (default: all), and stores them in `claims`."""
        create = partial(self.lab.create_claim, driver=self.driver.name, pool=self.node)
        numbers = range(self.driver.count if count is None else count)
        self.claims = [
            create(f"{self.node}-{number}", device=self.driver.device(number)) for number in numbers
        ]

    def fault(self, index: int) -> int:
        """Breaks one device and returns the instant."""
        return self.driver.fault(index, self.claims[index]["name"] if self.claims else "")

    def heal(self) -> None:
        """Repairs the broken devices, and returns when all slices and claims are healthy."""
        for attempt in range(1, _HEAL_TRIES + 1):
            self.driver.repair([claim["name"] for claim in self.claims])
            try:
                wait_until(f"{self.node}: healed", self._is_healed, _HEALED_SECONDS)
            except LabError:
                if attempt == _HEAL_TRIES:
                    raise
            else:
                return

    def _is_healed(self) -> bool:
        return self.is_published() and all(self._is_healthy(claim["name"]) for claim in self.claims)

    def _is_healthy(self, claim: str) -> bool:
        """Whether a claim's condition is healthy, or absent since the claim is not prepared."""
        status = self.lab.server.api.get(f"{CLAIMS}/{claim}").body.get("status") or {}
        conditions = [entry for device in status.get("devices") or [] for entry in device["conditions"]]
        return all(entry["status"] == "True" for entry in conditions if entry["type"] == "Healthy")
