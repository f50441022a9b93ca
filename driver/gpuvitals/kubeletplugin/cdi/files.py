"""The CDI files on disk: written before a claim counts as prepared, kept equal to the checkpoint ever after.

Nobody calls again for a running pod: a file that gets lost breaks every later start of its containers, so the files
are compared with the checkpoint at start, on a timer and when the directory changes.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.cdi.spec import file_name, is_ours, recorded_claim, spec_bytes, uid_of_file
from gpuvitals.kubeletplugin.directory import Directory, StorageError
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.model.ids import BootId, ClaimUid, GpuUuid
from gpuvitals.model.snapshot import Snapshot
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiProblem:
    """A spec file that is missing or wrong and could not be made. `claim` None concerns the directory."""

    claim: ClaimRef | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiNames:
    """What the files are called and which boot they are for."""

    naming: Naming
    boot: BootId


class CdiFiles:
    """The spec files of our claims in one CDI directory that other vendors share. Thread safe."""

    def __init__(
        self,
        directory: Directory,
        root: DriverRoot,
        names: CdiNames,
        snapshot: Callable[[], Snapshot | None],
    ) -> None:
        self._directory = directory
        self._root = root
        self._names = names
        self._snapshot = snapshot

    def write(self, held: HeldClaim) -> None:
        """Makes the claim's file durable. Raises RefusedError where the driver or the disk does not allow it."""
        content = self._content(held)
        try:
            self._directory.write(self._file(held.claim.uid), content)
        except StorageError as error:
            raise RefusedError(
                RefusalCode.STORAGE_FAILED, f"cdi file not written: {error}; the claim is not prepared"
            ) from error

    def ensure(self, held: HeldClaim) -> bool:
        """Writes the file only where it is missing or differs; whether it did.

        A file that names this very claim is left alone where a better one can't be made. Raises RefusedError where
        there is neither.
        """
        present = self._present(held.claim.uid)
        try:
            if present is not None and present == self._content(held):
                return False
            self.write(held)
        except RefusedError:
            if present is not None and recorded_claim(present, self._names.naming, self._names.boot) == held:
                return False
            raise
        return True

    def remove(self, uid: ClaimUid) -> None:
        """Removes the claim's file; fine where there is none. Raises StorageError."""
        self._directory.remove(self._file(uid))

    def recorded(self) -> tuple[HeldClaim, ...]:
        """The claims of this boot that the files themselves tell of: the witness for a torn checkpoint."""
        found: list[HeldClaim] = []
        try:
            names = self._directory.names()
        except StorageError as error:
            log.warning("cdi directory bears no witness", extra=keys(reason=error))
            return ()
        for name in names:
            uid = uid_of_file(self._names.naming, name)
            content = self._present(uid) if uid is not None else None
            if content is None:
                continue
            held = recorded_claim(content, self._names.naming, self._names.boot)
            if held is not None and held.claim.uid == uid:
                found.append(held)
        return tuple(found)

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes when a file comes or goes."""
        return self._directory.stamp()

    def reconcile(self, claims: Collection[HeldClaim]) -> tuple[CdiProblem, ...]:
        """Makes every claim's file right; the problems that are left."""
        problems: list[CdiProblem] = []
        for held in claims:
            try:
                self.ensure(held)
            except RefusedError as refused:
                problems.append(CdiProblem(claim=held.claim, message=refused.refusal.message))
        return tuple(problems)

    def sweep(self, known: Callable[[], Collection[ClaimUid]], grace_seconds: float) -> tuple[str, ...]:
        """Removes our files that belong to no known claim and are older than the grace; their names.

        `known` is asked after the listing, so a claim that was prepared meanwhile is among its answer. Raises
        StorageError.
        """
        listed = self._directory.names()
        keep = set(known())
        removed: list[str] = []
        for name in listed:
            written = self._directory.modified(name)
            if written is None or abs(time.time() - written) < grace_seconds:
                continue
            if self._directory.is_half_written(name) or self._is_orphan(name, keep):
                self._directory.remove(name)
                removed.append(name)
        return tuple(removed)

    def _is_orphan(self, name: str, keep: Collection[ClaimUid]) -> bool:
        uid = uid_of_file(self._names.naming, name)
        if uid is None or uid in keep:
            return False
        content = self._present(uid)
        return content is None or is_ours(content, self._names.naming)

    def _present(self, uid: ClaimUid) -> bytes | None:
        try:
            return self._directory.read(self._file(uid))
        except StorageError:
            return None  # unreadable (a planted symlink, say) counts as missing: it is written anew

    def _content(self, held: HeldClaim) -> bytes:
        """A device whose board was replaced, or whose minor number another GPU has now, gets no node."""
        snapshot = self._snapshot()
        gone = {device.uuid for device in held.devices if _is_nodeless(device, snapshot)}
        there = tuple(device for device in held.devices if device.uuid not in gone)
        parts = self._root.parts(_renumbered(there, snapshot))
        nodes = iter(parts.device_nodes)
        whole = tuple(() if device.uuid in gone else next(nodes) for device in held.devices)
        return spec_bytes(held, replace(parts, device_nodes=whole), self._names.naming, self._names.boot)

    def _file(self, uid: ClaimUid) -> str:
        return file_name(self._names.naming, uid)


def _is_nodeless(device: HeldDevice, snapshot: Snapshot | None) -> bool:
    """Whether the node of the device is, or can be, another GPU's by now."""
    if snapshot is None:
        return False
    if any(entry.gpu.uuid == device.uuid for entry in snapshot.replaced):
        return True
    others = {entry.gpu.minor for entry in snapshot.gpus if entry.gpu.mig is None}
    return (
        snapshot.find(device.uuid) is not None
        and _minor(snapshot, device.uuid) is None
        and device.minor in others
    )


def _renumbered(devices: tuple[HeldDevice, ...], snapshot: Snapshot | None) -> tuple[HeldDevice, ...]:
    """The devices with the minor numbers of now: a driver that was loaded again may have dealt them anew."""
    return tuple(_with_minor(device, snapshot) for device in devices)


def _with_minor(device: HeldDevice, snapshot: Snapshot | None) -> HeldDevice:
    minor = None if snapshot is None else _minor(snapshot, device.uuid)
    return device if minor is None or minor == device.minor else replace(device, minor=minor)


def _minor(snapshot: Snapshot, uuid: GpuUuid) -> int | None:
    entry = snapshot.find(uuid)
    if entry is not None and entry.gpu.mig is not None:
        entry = snapshot.find(entry.gpu.mig.parent)
    return None if entry is None else entry.gpu.minor
