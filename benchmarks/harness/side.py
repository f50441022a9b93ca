"""A driver under measurement on a node of its own, with its kubelet; the same steps are made on both sides."""

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
    """A node's name and its folder, whose path is short: a Unix socket's has 108 characters at most."""

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
        """The process that runs."""
        ...

    def start(self) -> int:
        """Starts the process and returns the instant of it; nothing is waited for. May be repeated after `stop`."""
        ...

    def stop(self) -> float:
        """SIGTERM; the seconds until it had ended. Nothing happens where it does not run."""
        ...

    def close(self) -> None:
        """Gives back what it holds besides its process."""
        ...

    def device(self, index: int) -> str:
        """A device's name."""
        ...

    def fault(self, index: int, claim: str = "") -> int:
        """Breaks one device, held by `claim` where that is named, and returns when: the clock runs from there."""
        ...

    def repair(self, claims: Sequence[str]) -> None:
        """Repairs what is broken, once. `claims` hold the devices, one each, where there are any."""
        ...


class Side:
    """Context manager over a driver, its kubelet and its claims. The driver is started by `up`."""

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
        """Claims for the first devices (all of them by default), one each, in `claims`."""
        create = partial(self.lab.create_claim, driver=self.driver.name, pool=self.node)
        numbers = range(self.driver.count if count is None else count)
        self.claims = [
            create(f"{self.node}-{number}", device=self.driver.device(number)) for number in numbers
        ]

    def fault(self, index: int) -> int:
        """Breaks one device and returns when."""
        return self.driver.fault(index, self.claims[index]["name"] if self.claims else "")

    def heal(self) -> None:
        """Repairs what is broken, and returns when neither a slice nor a claim says otherwise."""
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
        return self.is_published() and all(self._is_told(claim["name"]) for claim in self.claims)

    def _is_told(self, claim: str) -> bool:
        """Whether a claim's condition is healthy, or it has none because it is not prepared."""
        status = self.lab.server.api.get(f"{CLAIMS}/{claim}").body.get("status") or {}
        conditions = [entry for device in status.get("devices") or [] for entry in device["conditions"]]
        return all(entry["status"] == "True" for entry in conditions if entry["type"] == "Healthy")
