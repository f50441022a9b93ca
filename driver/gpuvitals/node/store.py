"""The agent's memory on disk: a fault seen but not yet published is here, and survives any exit.

What a restart needs: who the GPUs are, what the fold knows of each, what the cluster was last told, and how far the
kernel log was read. Times are on the boot clock, so they keep their meaning as long as the boot id is the same.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from gpuvitals.durable import DurableFile
from gpuvitals.health.state import GpuState
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId
from gpuvitals.model.snapshot import NodeFacts

SCHEMA = 1


class NewerStateError(Exception):
    """The file was written by a newer agent. It is left alone; this agent starts without memory and never writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGpu:
    """One GPU as the agent knows it. `published` is the verdict that the cluster was last shown, at `published_at`.

    `spared` is why it is in service although it should be out, empty where it is as it should be.
    `gone`: a MIG instance that the driver does not list any more, while it lists its GPU. `retired`: another GPU was
    enumerated in its slot, or in its parent's. `slot_taken` is when it took its slot from another GPU.
    """

    gpu: Gpu
    state: GpuState
    published: Verdict | None
    published_at: float
    state_since: datetime
    isolated: bool
    spared: str = ""
    gone: bool = False
    retired: bool = False
    slot_taken: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNode:
    """Everything the agent remembers. `facts` are those that the cluster was last shown."""

    boot_id: BootId
    driver_load: str
    saved: Moment
    revision: int
    gpus: tuple[StoredGpu, ...]
    kmsg_sequence: int | None = None
    facts: NodeFacts = field(default_factory=NodeFacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    schema: int
    node: msgspec.Raw


_DOCUMENT = msgspec.json.Decoder(_Document)
_NODE = msgspec.json.Decoder(StoredNode)


class StateStore:
    """The state file. Owned by the agent's thread alone."""

    def __init__(self, path: Path) -> None:
        self._file = DurableFile(path)
        self._last = b""
        self._frozen = False

    def load(self) -> tuple[StoredNode | None, str]:
        """The memory (None at first start or where nothing is usable), and what had to be recovered, if anything.

        Raises NewerStateError; `save` then writes nothing.
        """
        loaded = self._file.load(patient=True)
        if loaded.payload is None:
            return None, loaded.recovered
        try:
            document = _DOCUMENT.decode(loaded.payload)
            if document.schema > SCHEMA:
                self._frozen = True
                raise NewerStateError(
                    f"{self._file.path}: schema {document.schema}, this agent knows {SCHEMA}"
                )
            return _NODE.decode(document.node), loaded.recovered
        except msgspec.DecodeError as error:
            return None, f"{self._file.path}: {error}"

    def save(self, node: StoredNode) -> bool:
        """Makes `node` durable; True where something was written. Raises DurableFileError."""
        if self._frozen:
            return False
        content = msgspec.json.encode(_Document(schema=SCHEMA, node=msgspec.Raw(msgspec.json.encode(node))))
        if content == self._last:
            return False
        self._file.save(content)
        self._last = content
        return True
