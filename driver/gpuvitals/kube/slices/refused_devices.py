"""Devices that the API server refused: they are left out of the pool, so that the others are still published.

A refusal names the field at fault, and with it the device. Where it names none, the devices that differ from the stored
slice are at fault: the stored ones were accepted. A device is tried again once it changes, and after a while. Used by
the publisher's thread only.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.device import Device
from gpuvitals.inventory.pool import Pool, without_devices
from gpuvitals.kube.errors import Invalid
from gpuvitals.kube.slices.plan import SliceWrite
from gpuvitals.model.ids import DeviceName
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

RETRY_SECONDS = 300.0
"""How long a device that a refusal has named is not sent again as it is."""
GUESS_SECONDS = 60.0
"""And one that no refusal has named: the refusal may have been about something else, which has passed."""
BODY_SECONDS = 10.0
"""How long a refused slice is not sent again as it is: what refused it may be an admission policy, since mended."""

_FIELD = re.compile(r"spec\.devices\[([0-9]{1,4})\]")
_DECODER = msgspec.json.Decoder(list[msgspec.Raw])
_DEVICES = msgspec.json.Decoder(list[dict[str, object]])
_DEVICES_PLACE = 1
"""Where the devices stand in the content that the planner compares."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    device: Device
    why: str
    until: float
    is_guess: bool


class RefusedDevices:
    """Remembers the refused devices by name. `told` is called once for each change of the devices that are left out."""

    def __init__(self, metrics: NodeMetrics, told: Callable[[str], None]) -> None:
        self._metrics = metrics
        self._told = told
        self._refused: dict[DeviceName, _Refusal] = {}
        self._bodies: dict[bytes, float] = {}
        self._left_out = ""

    @property
    def left_out(self) -> str:
        """Which devices are not published and why, empty where all are. Any thread may read it."""
        return self._left_out

    def accepted(self, pool: Pool, now: float) -> Pool:
        """The pool without the devices that were refused as they are now."""
        trimmed = self._trimmed(pool, now)
        text = "; ".join(str(each) for each in trimmed.left_out)
        if text and text != self._left_out:
            log.error("devices not published", extra=keys(error=text))
            self._told(text)
        self._left_out = text
        self._metrics.devices_left_out.set(len(trimmed.left_out))
        return trimmed

    def _trimmed(self, pool: Pool, now: float) -> Pool:
        devices = {device.name: device for part in pool.slices for device in part.devices}
        self._refused = {
            name: each
            for name, each in self._refused.items()
            if now < each.until and devices.get(name) == each.device
        }
        if not self._refused:
            return pool
        return without_devices(pool, {name: each.why for name, each in self._refused.items()})

    def is_refused(self, body: bytes | None, now: float) -> bool:
        """Whether the server refused this body a short while ago."""
        return body is not None and now < self._bodies.get(body, 0.0)

    def refused_until(self, now: float) -> float:
        """When the next refused slice may be sent again; infinite where there is none."""
        self._bodies = {body: until for body, until in self._bodies.items() if now < until}
        return min(self._bodies.values(), default=float("inf"))

    def blame(self, write: SliceWrite, error: Invalid, pool: Pool, now: float) -> bool:
        """Whether the refusal is laid on devices of the slice, which the next pool is without.

        Where the slice is refused without the devices that were guessed, the guess was wrong: they are back in the next
        pool.
        """
        self._bodies = {body: until for body, until in self._bodies.items() if now < until}
        self._bodies[write.body or b""] = now + BODY_SECONDS
        named = _named(write, error)
        if not named and any(each.is_guess for each in self._refused.values()):
            self._refused = {name: each for name, each in self._refused.items() if not each.is_guess}
            return False
        # A field that is no device's is nobody's fault here: the annotations, or the pool.
        names = named or (set() if error.fields else _changed(write))
        found = [device for part in pool.slices for device in part.devices if device.name in names]
        until = now + (RETRY_SECONDS if named else GUESS_SECONDS)
        for device in found:
            self._refused[device.name] = _Refusal(device, str(error), until, not named)
        return bool(found)


def _named(write: SliceWrite, error: Invalid) -> set[str]:
    sent = _devices(write.content)
    places = {int(match[1]) for field in error.fields if (match := _FIELD.match(field))}
    return {str(sent[place].get("name")) for place in places if place < len(sent)}


def _changed(write: SliceWrite) -> set[str]:
    """Nothing for a slice that is new: there is no accepted one to compare with."""
    if write.target is None:
        return set()
    stored = {str(device.get("name")): device for device in _devices(write.target.content)}
    return {
        name for device in _devices(write.content) if stored.get(name := str(device.get("name"))) != device
    }


def _devices(content: bytes) -> list[dict[str, object]]:
    return decoded(_DEVICES, decoded(_DECODER, content)[_DEVICES_PLACE]) if content else []
