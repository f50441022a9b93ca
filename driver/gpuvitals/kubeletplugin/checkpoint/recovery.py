"""Loads the checkpoint, and recovers the prepared claims when its file is damaged, missing or of another version.

The second record of each claim is its CDI file. A damaged checkpoint is replaced by its previous generation, completed
from the CDI files of this boot; every recovery is reported.
"""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from gpuvitals.durable import DurableFile
from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.checkpoint.file_lock import storage_failed
from gpuvitals.kubeletplugin.checkpoint.format import SCHEMA, State, decode
from gpuvitals.kubeletplugin.held_claim import HeldClaim, conflict
from gpuvitals.model.ids import BootId

DAMAGED = "checkpoint.json.damaged"
"""Name under which a damaged file is kept for inspection."""


class ClaimRecords(Protocol):
    """The claims that are recorded outside the checkpoint."""

    def recorded(self) -> tuple[HeldClaim, ...]:
        """The claims of this boot that have a CDI file. Raises nothing."""
        ...


class RecoveryReports(Protocol):
    """Takes reports of recoveries."""

    def recovered(self, cause: str, message: str, claims: tuple[ClaimRef, ...]) -> None:
        """`cause` is one of `corrupt`, `missing`, `quarantined`, `newer`; `claims` are the affected ones."""
        ...


class CheckpointLoader:
    """Reads the file of one boot. The caller holds the file's lock."""

    def __init__(
        self, path: Path, file: DurableFile, boot: BootId, records: ClaimRecords, reports: RecoveryReports
    ) -> None:
        self._path = path
        self._file = file
        self._boot = boot
        self._records = records
        self._reports = reports
        self._reported: set[tuple[str, str]] = set()

    def load(self, *, was_refused: bool) -> tuple[State, bool]:
        """The state, and whether it must be saved even without a change. Raises RefusedError (StorageFailed).

        `was_refused`: the last save failed, so the file's content may be visible without being durable.
        """
        loaded = self._file.load()
        trouble, damaged = loaded.recovered, loaded.damaged
        state = State(boot=self._boot)
        if loaded.payload is not None:
            try:
                state = decode(loaded.payload, self._boot)
            except ValueError as error:
                trouble = trouble or f"{self._path}: {error}"
                damaged += (loaded.path,) if loaded.path is not None else ()
        if state.newer:
            # Its claims can't be released by this version, so they are informed too.
            claims = tuple(held.claim for held in state.claims)
            self._report_once("newer", f"{versions(self._path, state)}; it is read but not written", claims)
        if state.quarantined:
            message = f"{len(state.quarantined)} entries of {self._path} can't be read; they are set aside"
            self._report_once("quarantined", message)
            if not trouble and not state.newer:
                restored = self._restore_quarantined(state)
                return restored, was_refused or restored != state
        if trouble or loaded.payload is None:
            state = self._rebuild(state, trouble, damaged)
            return state, bool(trouble or state.claims)
        return state, was_refused

    def _restore_quarantined(self, state: State) -> State:
        """Replaces unreadable entries by the records in their CDI files: those devices are in use."""
        for held in self._records.recorded():
            without = state.without_quarantined(held.claim.uid)
            if without != state and conflict(held.claim.uid, held.devices, state.claims) is None:
                state = without.with_claim(held)
        return state

    def _rebuild(self, state: State, trouble: str, damaged: tuple[Path, ...]) -> State:
        """The previous generation merged with the CDI files of this boot, which are newer and win conflicts."""
        recorded = self._records.recorded()
        kept = tuple(
            held
            for held in state.claims
            if held.claim.uid not in {entry.claim.uid for entry in recorded}
            and conflict(held.claim.uid, held.devices, recorded) is None
        )
        merged = replace(state, claims=(*kept, *recorded))
        if trouble:
            self._set_aside(damaged)
            message = (
                f"{trouble}; continued with {len(merged.claims)} claims from the previous generation and cdi"
            )
            self._reports.recovered("corrupt", message, ())
        elif recorded:
            message = f"{self._path} is missing; {len(recorded)} claims were restored from cdi files"
            self._report_once("missing", message)
        return merged

    def _set_aside(self, damaged: tuple[Path, ...]) -> None:
        try:
            self._file.set_aside(damaged, DAMAGED)
        except OSError as error:
            raise storage_failed(f"{self._path}: {error.strerror}") from error

    def _report_once(self, cause: str, message: str, claims: tuple[ClaimRef, ...] = ()) -> None:
        if (cause, message) not in self._reported:
            self._reported.add((cause, message))
            self._reports.recovered(cause, message, claims)


def versions(path: Path, state: State) -> str:
    """The schema versions of a file from a newer agent and of this agent, for messages."""
    return f"{path} was written with schema {state.schema} by a newer version; this agent supports schema {SCHEMA}"
