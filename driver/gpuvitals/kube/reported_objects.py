"""The objects that a reflector has reported, by version: turns lists and events into differences."""

import logging
from collections.abc import Collection

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks
from gpuvitals.kube.watch_wire import OBJECT, ObjectMeta
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)


class ReportedObjects:
    """Reports each object once for each of its versions. One thread uses it, except for `skip`."""

    def __init__(self, path: str, metrics: NodeMetrics, hooks: ReflectorHooks) -> None:
        self._path = path
        self._metrics = metrics
        self._hooks = hooks
        self._versions: dict[ObjectKey, str] = {}
        self._skipped = CauseLog(log, "object skipped")

    def report(self, raw: msgspec.Raw) -> ObjectKey | None:
        """Reports one object if its version is new. Returns its key, None for an object without readable metadata."""
        meta = self.metadata(raw)
        if meta is None:
            return None
        key = (meta.namespace, meta.name)
        if self._versions.get(key) != meta.resource_version:
            try:
                self._hooks.changed(key, bytes(raw))
            except msgspec.DecodeError as error:
                self.skip(str(error))
            self._versions[key] = meta.resource_version
        return key

    def report_deleted(self, key: ObjectKey, uid: str) -> None:
        """Reports a delete event."""
        self._hooks.deleted(key, uid)
        if self._versions.pop(key, None) is not None:
            self._hooks.changed(key, None)

    def report_missing(self, stored: Collection[ObjectKey]) -> None:
        """Reports the end of every object that is not among the stored ones."""
        for key in self._versions.keys() - stored:
            del self._versions[key]
            self._hooks.changed(key, None)

    def metadata(self, raw: msgspec.Raw) -> ObjectMeta | None:
        """The metadata of an object; None for an object that is skipped, since it has none that can be read."""
        try:
            return decoded(OBJECT, raw).metadata
        except msgspec.DecodeError as error:
            self.skip(str(error))
            return None

    def skip(self, reason: str) -> None:
        """Counts an object that cannot be decoded. Thread safe."""
        resource = self._path.rsplit("/", 1)[-1]
        self._metrics.objects_skipped.labels(resource=resource).inc()
        self._skipped.happened(reason, path=self._path, error=reason)
