"""A driver's start from outside: from exec to the answer to GetInfo, and to its last device at a watcher."""

from dataclasses import dataclass

from benchmarks.harness.lab import tainted
from benchmarks.harness.side import PUBLISH_SECONDS, Side
from benchmarks.harness.watcher import Seen, Watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Milliseconds since exec."""

    answered_ms: float
    published_ms: float


def start(side: Side, watcher: Watcher) -> Start:
    """Starts the driver; no slice of it may exist."""
    at = side.driver.start()
    answered = side.kubelet.register()
    seen = watcher.first(f"all devices of {side.node}", Complete(side.driver.count), PUBLISH_SECONDS)
    return Start(answered_ms=(answered - at) / 1e6, published_ms=(seen.at - at) / 1e6)


class Complete:
    """Whether, with this event, every device is published and none is out of service. For `Watcher.first`."""

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._slices: dict[str, int] = {}

    def __call__(self, seen: Seen) -> bool:
        name = seen.object["metadata"]["name"]
        if seen.kind == "DELETED" or tainted(seen.object):
            self._slices.pop(name, None)
        else:
            self._slices[name] = len(seen.object["spec"].get("devices") or [])
        return sum(self._slices.values()) == self._devices
