"""Reads operators' reports from the Node: the short annotation `report`, and `override`, signed and with an expiry.

The last valid text of each is on disk, for an agent that starts while the API server is unreachable.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.durable import DurableFile, DurableFileError
from gpuvitals.inventory.naming import Naming
from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import ExternalReport, ExternalReports, Source
from gpuvitals.node.ports import PublisherRole
from gpuvitals.node.reports import RefusedReports
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.logs import keys
from gpuvitals.signals.reports.text import (
    MAX_BYTES,
    ReportError,
    Rules,
    reports_from_json,
    reports_from_lines,
)
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

_KEPT = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationPorts:
    """The parts that the reader uses. `storage` gets the result of each save."""

    refused: RefusedReports
    role: PublisherRole
    storage: StorageReport


class ReportAnnotations:
    """Call `load` first, then `update` on one thread for each state of the Node."""

    def __init__(
        self, naming: Naming, path: Path, clock: Clock, sink: SignalSink, ports: AnnotationPorts
    ) -> None:
        self._keys = (naming.report, naming.override)
        self._file = DurableFile(path)
        self._clock = clock
        self._sink = sink
        self._ports = ports
        self._good: dict[str, str] = {}
        self._reports: dict[str, tuple[ExternalReport, ...]] = {}
        self._seen: dict[str, str] | None = None

    def load(self) -> None:
        """Sends the reports that were in force when an earlier agent ended."""
        loaded = self._file.load()
        trouble = loaded.recovered
        if loaded.payload is not None:
            try:
                kept = decoded(_KEPT, loaded.payload)
                for key in self._keys:
                    self._take(key, kept.get(key, ""))
                self._send()
            except msgspec.DecodeError as error:
                trouble = f"{self._file.path}: {error}"
        if trouble:
            log.warning("reports recovered", extra=keys(reason=trouble))

    def update(self, annotations: Mapping[str, str]) -> None:
        """Takes the Node's present annotations."""
        seen = {key: annotations.get(key, "") for key in self._keys}
        if seen == self._seen:
            return
        before, self._seen = self._seen or {}, seen
        for key in self._keys:
            if seen[key] != before.get(key):
                self._take(key, seen[key])
        self._send()
        self._save()

    def _take(self, key: str, text: str) -> None:
        """Parses one annotation. An invalid text is reported, and the reports before it stay in force."""
        try:
            self._reports[key] = self._parsed(key, text)
            self._good[key] = text
        except ReportError as error:
            log.error("report refused", extra=keys(annotation=key, reason=str(error)))
            self._ports.refused.refused(f"annotation {key}", str(error))

    def _parsed(self, key: str, text: str) -> tuple[ExternalReport, ...]:
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise ReportError(f"is not UTF-8: {error.reason} at {error.start}") from error
        if len(content) > MAX_BYTES:
            raise ReportError(f"has more than {MAX_BYTES} bytes")
        if not text.strip():
            return ()
        if key == self._keys[0]:
            return reports_from_lines(text, Rules(by="annotation"))
        return reports_from_json(content, self._clock.now(), Rules(may_clear=True, must_expire=True))

    def _send(self) -> None:
        """Sends all reports. An override comes before a report of the same GPU, since it is signed."""
        reports = [each for key in reversed(self._keys) for each in self._reports.get(key, ())]
        self._sink.put(
            ExternalReports(source=Source.OPERATOR, seen=self._clock.now(), reports=tuple(reports))
        )

    def _save(self) -> None:
        if not self._ports.role.publishing():
            return
        try:
            self._file.save(msgspec.json.encode(self._good))
        except DurableFileError as error:
            self._ports.storage.failed(self._file.path, error)
        else:
            self._ports.storage.saved(self._file.path)
