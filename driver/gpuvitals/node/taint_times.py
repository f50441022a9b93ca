"""Persists the timeAdded of each taint, so that a re-created slice does not reset it."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.durable import DurableFile, DurableFileError
from gpuvitals.kube.slices.codec import TaintKey
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

_TIME = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?Z\Z")
_TIMES = msgspec.json.Decoder(list[tuple[TaintKey, str]])


class TaintTimes:
    """One small file. If it cannot be read or written, only the age of taints is lost."""

    def __init__(self, path: Path, storage: StorageReport) -> None:
        self._file = DurableFile(path)
        self._storage = storage
        self._known: dict[TaintKey, str] = {}

    def load(self) -> Mapping[TaintKey, str]:
        """The times that an earlier agent stored; empty if they cannot be read."""
        loaded = self._file.load(patient=True)
        trouble = loaded.recovered
        if loaded.payload is not None:
            try:
                listed = decoded(_TIMES, loaded.payload)
                # A time that the API server would refuse must not block every write of the slices.
                self._known = {key: time for key, time in listed if _TIME.match(time)}
            except msgspec.DecodeError as error:
                trouble = str(error)
        if trouble:
            log.warning("age of taints", extra=keys(reason=trouble))
        return dict(self._known)

    def keep(self, times: Mapping[TaintKey, str]) -> None:
        """Makes the times durable if they have changed."""
        if times == self._known:
            return
        try:
            self._file.save(msgspec.json.encode(sorted(times.items())))
        except DurableFileError as error:
            self._storage.failed(self._file.path, error)
            return
        self._storage.saved(self._file.path)
        self._known = dict(times)
