"""The kubelet's claims: the pods that use them and the devices that drivers prepared. Survives a restart.

Place in the chain: the preparer writes it, pod status and container start read it. `prepared` holds for this process
only: after a restart a claim is prepared again, but only for a new sandbox.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/claiminfo.go; observed on 1.37.2.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gpuvitals_sim.kubelet.plugin import ClaimRef, PreparedDevice

ClaimKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimInfo:
    """One claim on this node; never changed, only replaced."""

    ref: ClaimRef
    drivers: tuple[str, ...]
    pods: frozenset[str] = frozenset()
    devices: dict[str, tuple[PreparedDevice, ...]] = field(default_factory=dict)
    prepared: bool = False

    def devices_for(self, request: str) -> list[tuple[str, PreparedDevice]]:
        """Driver and device of each device of the request; an empty request means the whole claim."""
        return [
            (driver, device)
            for driver in self.drivers
            for device in self.devices.get(driver, ())
            if not request or not device.requests or request in device.requests
        ]


class OldClaim(Exception):
    """A claim of the same name is still in use under another UID; the message goes into the pod's event."""


class ClaimInfoCache:
    """The claims of the node. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._infos: dict[ClaimKey, ClaimInfo] = {}

    def join(self, ref: ClaimRef, drivers: Iterable[str], pod_uid: str) -> ClaimInfo:
        """Registers the pod as a user of the claim, before any call for it. Raises OldClaim."""
        with self._lock:
            key = (ref.namespace, ref.name)
            info = self._infos.get(key) or ClaimInfo(ref=ref, drivers=tuple(drivers))
            if info.ref.uid != ref.uid:
                raise OldClaim(
                    f"old ResourceClaim with same name {ref.name} and different UID {info.ref.uid} still exists"
                )
            info = replace(info, pods=info.pods | {pod_uid})
            self._infos[key] = info
            return info

    def set_devices(self, ref: ClaimRef, driver: str, devices: tuple[PreparedDevice, ...]) -> None:
        """Stores the devices that the driver prepared."""
        with self._lock:
            info = self._infos.get((ref.namespace, ref.name))
            if info is not None and info.ref.uid == ref.uid:
                self._infos[ref.namespace, ref.name] = replace(
                    info, devices={**info.devices, driver: devices}
                )

    def set_prepared(self, refs: Iterable[ClaimRef]) -> None:
        """Marks these claims as prepared by all their drivers."""
        with self._lock:
            for ref in refs:
                info = self._infos.get((ref.namespace, ref.name))
                if info is not None and info.ref.uid == ref.uid:
                    self._infos[ref.namespace, ref.name] = replace(info, prepared=True)

    def leave(self, key: ClaimKey, pod_uid: str) -> ClaimInfo | None:
        """Removes the pod as a user of the claim. Returns the claim if this is its last pod, which then stays registered."""
        with self._lock:
            info = self._infos.get(key)
            if info is None or pod_uid not in info.pods:
                return None
            if info.pods == {pod_uid}:
                return info
            self._infos[key] = replace(info, pods=info.pods - {pod_uid})
            return None

    def drop(self, info: ClaimInfo) -> None:
        """Removes an unprepared claim."""
        with self._lock:
            self._infos.pop((info.ref.namespace, info.ref.name), None)

    def of_pod(self, pod_uid: str) -> tuple[ClaimInfo, ...]:
        """The claims that the pod uses."""
        with self._lock:
            return tuple(info for info in self._infos.values() if pod_uid in info.pods)

    def find(self, key: ClaimKey) -> ClaimInfo | None:
        """The claim, or None."""
        return self._infos.get(key)

    def all(self) -> tuple[ClaimInfo, ...]:
        """Every claim of the node."""
        with self._lock:
            return tuple(self._infos.values())

    def forget_prepared(self) -> None:
        """Marks all claims as not prepared, as after a restart."""
        with self._lock:
            self._infos = {key: replace(info, prepared=False) for key, info in self._infos.items()}
