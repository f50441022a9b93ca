"""Leaves devices that the API server refused out of the pool, so that the others are still published.

A refusal names the field at fault, and with it the device. If it names no field, the devices that differ from the stored
slice are at fault, since the server has accepted the stored ones. A device is sent again once it changes, and after a
while. The publisher's thread alone uses this module.
"""

import logging
import re
from dataclasses import dataclass

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.device import Device
from gpuvitals.inventory.pool import Pool, without_devices
from gpuvitals.kube.errors import Invalid
from gpuvitals.kube.slices.plan import SliceWrite
from gpuvitals.kube.slices.ports import SliceListener
from gpuvitals.model.ids import DeviceName
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

RETRY_SECONDS = 300.0
"""How long an unchanged device is not sent again after a refusal that named it."""
GUESS_SECONDS = 60.0
"""The same after a refusal that named no device: its cause may have been another one, which has passed."""
BODY_SECONDS = 10.0
"""How long an unchanged slice is not sent again: an admission policy may have refused it, and be corrected by then."""

_FIELD = re.compile(r"spec\.devices\[([0-9]{1,4})\]")
_DECODER = msgspec.json.Decoder(list[msgspec.Raw])
_DEVICES = msgspec.json.Decoder(list[dict[str, object]])
_DEVICES_PLACE = 1
"""Index of the devices in the content that the planner compares."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    device: Device
    why: str
    until: float
    is_guess: bool


class RefusedDevices:
    """The refused devices by name. `listener` gets each change of the devices that are left out once."""

    def __init__(self, metrics: NodeMetrics, listener: SliceListener) -> None:
        self._metrics = metrics
        self._listener = listener
        self._refused: dict[DeviceName, _Refusal] = {}
        self._bodies: dict[bytes, float] = {}
        self._left_out = ""

    @property
    def left_out(self) -> str:
        """The devices that are not published, each with the reason; empty for none. Any thread may read it."""
        return self._left_out

    def accepted(self, pool: Pool, now: float) -> Pool:
        """The pool without the devices that were refused in their present form."""
        trimmed = self._trimmed(pool, now)
        text = "; ".join(str(each) for each in trimmed.left_out)
        if text and text != self._left_out:
            log.error("devices not published", extra=keys(error=text))
            self._listener.slices_refused(text)
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
        """Whether the server refused this body within the last `BODY_SECONDS`."""
        return body is not None and now < self._bodies.get(body, 0.0)

    def refused_until(self, now: float) -> float:
        """The monotonic time at which the next refused slice may be sent again; infinite for none."""
        self._bodies = {body: until for body, until in self._bodies.items() if now < until}
        return min(self._bodies.values(), default=float("inf"))

    def blame(self, write: SliceWrite, error: Invalid, pool: Pool, now: float) -> bool:
        """Assigns a refusal to devices of the slice. Returns whether there are any; the next pool leaves them out.

        If the slice is refused without the devices that were guessed, the guess was wrong: the next pool has them again.
        """
        self._bodies = {body: until for body, until in self._bodies.items() if now < until}
        self._bodies[write.body or b""] = now + BODY_SECONDS
        named = _named(write, error)
        if not named and any(each.is_guess for each in self._refused.values()):
            self._refused = {name: each for name, each in self._refused.items() if not each.is_guess}
            return False
        # A field outside the devices (annotations, the pool) blames no device.
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
    """The devices that differ from the stored slice. Empty for a new slice, which has no stored one."""
    if write.target is None:
        return set()
    stored = {str(device.get("name")): device for device in _devices(write.target.content)}
    return {
        name for device in _devices(write.content) if stored.get(name := str(device.get("name"))) != device
    }


def _devices(content: bytes) -> list[dict[str, object]]:
    return decoded(_DEVICES, decoded(_DECODER, content)[_DEVICES_PLACE]) if content else []
