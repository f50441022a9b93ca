"""What people write on the Node about its GPUs: the annotations `report`, short, and `override`, signed and with an end.

The last good text of each is on disk: an agent that starts while the API server is away goes by it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.durable import DurableFile, DurableFileError
from gpuvitals.inventory.naming import Naming
from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import ExternalReport, Source, StatementsReport
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.logs import keys
from gpuvitals.signals.reports.text import (
    MAX_BYTES,
    Rules,
    StatementError,
    statements_from_json,
    statements_from_lines,
)
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

_KEPT = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationPorts:
    """`refused` takes the name of an annotation and what is wrong with it; `may_save`: this agent owns the file.

    `storage` takes how each save ended.
    """

    refused: Callable[[str, str], None]
    may_save: Callable[[], bool]
    storage: StorageReport


class ReportAnnotations:
    """`load` comes first; then `seen` is called on one thread, whenever the Node was looked at."""

    def __init__(
        self, naming: Naming, path: Path, clock: Clock, sink: SignalSink, ports: AnnotationPorts
    ) -> None:
        self._keys = (naming.report, naming.override)
        self._file = DurableFile(path)
        self._clock = clock
        self._sink = sink
        self._ports = ports
        self._good: dict[str, str] = {}
        self._statements: dict[str, tuple[ExternalReport, ...]] = {}
        self._looked: dict[str, str] | None = None

    def load(self) -> None:
        """Says again what stood when an earlier agent ended."""
        loaded = self._file.load()
        trouble = loaded.recovered
        if loaded.payload is not None:
            try:
                kept = decoded(_KEPT, loaded.payload)
                for key in self._keys:
                    self._take(key, kept.get(key, ""))
                self._tell()
            except msgspec.DecodeError as error:
                trouble = f"{self._file.path}: {error}"
        if trouble:
            log.warning("reports recovered", extra=keys(reason=trouble))

    def seen(self, annotations: Mapping[str, str]) -> None:
        """The Node's annotations as they are now."""
        looked = {key: annotations.get(key, "") for key in self._keys}
        if looked == self._looked:
            return
        before, self._looked = self._looked or {}, looked
        for key in self._keys:
            if looked[key] != before.get(key):
                self._take(key, looked[key])
        self._tell()
        self._save()

    def _take(self, key: str, text: str) -> None:
        """Text that can't be used is told, and what stood before stands on."""
        try:
            self._statements[key] = self._parsed(key, text)
            self._good[key] = text
        except StatementError as error:
            log.error("report refused", extra=keys(annotation=key, reason=str(error)))
            self._ports.refused(f"annotation {key}", str(error))

    def _parsed(self, key: str, text: str) -> tuple[ExternalReport, ...]:
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise StatementError(f"is not UTF-8: {error.reason} at {error.start}") from error
        if len(content) > MAX_BYTES:
            raise StatementError(f"has more than {MAX_BYTES} bytes")
        if not text.strip():
            return ()
        if key == self._keys[0]:
            return statements_from_lines(text, Rules(by="annotation"))
        return statements_from_json(content, self._clock.now(), Rules(may_clear=True, must_expire=True))

    def _tell(self) -> None:
        """An override goes before a report of the same GPU: it is signed."""
        told = [each for key in reversed(self._keys) for each in self._statements.get(key, ())]
        self._sink.put(
            StatementsReport(source=Source.OPERATOR, seen=self._clock.now(), statements=tuple(told))
        )

    def _save(self) -> None:
        if not self._ports.may_save():
            return
        try:
            self._file.save(msgspec.json.encode(self._good))
        except DurableFileError as error:
            self._ports.storage.failed(self._file.path, error)
        else:
            self._ports.storage.saved(self._file.path)
