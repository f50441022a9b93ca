"""The CDI files on disk: written before their claim counts as prepared, and then kept in step with the checkpoint.

The kubelet makes no call for a running pod, and a lost file breaks every later start of its containers. So the files
are compared with the checkpoint at start, on a timer and after each change of the directory.
"""

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.cdi.spec import file_name, is_ours, recorded_claim, spec_bytes, uid_of_file
from gpuvitals.kubeletplugin.directory import Directory, Stamp, StorageError
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.ports import SnapshotSource
from gpuvitals.model.ids import BootId, ClaimUid, GpuUuid
from gpuvitals.model.snapshot import Snapshot
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiProblem:
    """A spec file that is missing or wrong and could not be written. A problem without a `claim` is the directory's."""

    claim: ClaimRef | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiNames:
    """The naming of the files, and the boot that they are valid for."""

    naming: Naming
    boot: BootId


class CdiFiles:
    """This driver's spec files in a CDI directory that is shared with other vendors. Thread safe."""

    def __init__(
        self,
        directory: Directory,
        root: DriverRoot,
        names: CdiNames,
        snapshots: SnapshotSource,
    ) -> None:
        self._directory = directory
        self._root = root
        self._names = names
        self._snapshots = snapshots

    def write(self, held: HeldClaim) -> None:
        """Writes the claim's file durably. Raises RefusedError if driver files are missing or the disk refuses."""
        content = self._content(held)
        try:
            self._directory.write(self._file(held.claim.uid), content)
        except StorageError as error:
            raise RefusedError(
                RefusalCode.STORAGE_FAILED, f"cdi file not written: {error}; the claim is not prepared"
            ) from error

    def ensure(self, held: HeldClaim) -> bool:
        """Writes the file if it is missing or differs. Returns whether it was written.

        If it can't be written, an existing file for this same claim is kept; without one, raises RefusedError.
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
        """Removes the claim's file, if there is one. Raises StorageError."""
        self._directory.remove(self._file(uid))

    def recorded(self) -> tuple[HeldClaim, ...]:
        """The claims of this boot that have a file: the second record, from which a damaged checkpoint is recovered."""
        found: list[HeldClaim] = []
        try:
            names = self._directory.names()
        except StorageError as error:
            log.warning("cdi directory not readable", extra=keys(reason=error))
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

    def stamp(self) -> Stamp:
        """A stamp of the directory, which changes when a file is added or removed."""
        return self._directory.stamp()

    def reconcile(self, claims: Collection[HeldClaim]) -> tuple[CdiProblem, ...]:
        """Restores the file of every claim. Returns the problems that remain."""
        problems: list[CdiProblem] = []
        for held in claims:
            try:
                self.ensure(held)
            except RefusedError as refused:
                problems.append(CdiProblem(claim=held.claim, message=refused.refusal.message))
        return tuple(problems)

    def names(self) -> tuple[str, ...]:
        """The names of all files in the directory, for `sweep`. Raises StorageError."""
        return self._directory.names()

    def sweep(
        self, names: Collection[str], live: Collection[ClaimUid], grace_seconds: float
    ) -> tuple[str, ...]:
        """Removes those of `names` that are this driver's, older than the grace and of no live claim. Returns them.

        Read `live` after `names`, so that the file of a claim that was prepared in between is kept. Raises StorageError.
        """
        removed: list[str] = []
        for name in names:
            written = self._directory.modified(name)
            if written is None or abs(time.time() - written) < grace_seconds:
                continue
            if self._directory.is_half_written(name) or self._is_orphan(name, live):
                self._directory.remove(name)
                removed.append(name)
        return tuple(removed)

    def _is_orphan(self, name: str, live: Collection[ClaimUid]) -> bool:
        uid = uid_of_file(self._names.naming, name)
        if uid is None or uid in live:
            return False
        content = self._present(uid)
        return content is None or is_ours(content, self._names.naming)

    def _present(self, uid: ClaimUid) -> bytes | None:
        try:
            return self._directory.read(self._file(uid))
        except StorageError:
            return (
                None  # an unreadable file, for example a planted symlink, counts as missing and is replaced
            )

    def _content(self, held: HeldClaim) -> bytes:
        """The spec. A device whose board was replaced, or whose minor number another GPU now has, gets no device node."""
        snapshot = self._snapshots.snapshot
        absent = {device.uuid for device in held.devices if _is_nodeless(device, snapshot)}
        present = tuple(device for device in held.devices if device.uuid not in absent)
        parts = self._root.parts(_renumbered(present, snapshot))
        nodes = iter(parts.device_nodes)
        device_nodes = tuple(() if device.uuid in absent else next(nodes) for device in held.devices)
        parts = replace(parts, device_nodes=device_nodes)
        return spec_bytes(held, parts, self._names.naming, self._names.boot)

    def _file(self, uid: ClaimUid) -> str:
        return file_name(self._names.naming, uid)


def _is_nodeless(device: HeldDevice, snapshot: Snapshot | None) -> bool:
    """Whether the device's node belongs, or may belong, to another GPU now."""
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
    """The devices with their current minor numbers, because a driver reload can renumber them."""
    return tuple(_with_minor(device, snapshot) for device in devices)


def _with_minor(device: HeldDevice, snapshot: Snapshot | None) -> HeldDevice:
    minor = None if snapshot is None else _minor(snapshot, device.uuid)
    return device if minor is None or minor == device.minor else replace(device, minor=minor)


def _minor(snapshot: Snapshot, uuid: GpuUuid) -> int | None:
    entry = snapshot.find(uuid)
    if entry is not None and entry.gpu.mig is not None:
        entry = snapshot.find(entry.gpu.mig.parent)
    return None if entry is None else entry.gpu.minor
