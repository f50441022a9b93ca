"""Stage 10 of 10: reconciles the node's ResourceSlices, also after deletes and foreign edits.

Level-triggered: each comparison uses the newest desired pool and the slices that are stored now. Slices are not deleted at
exit.
"""

import logging
import time

from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.reflector import Reflector
from gpuvitals.kube.reflector_ports import Selection
from gpuvitals.kube.retry import SLICES, retrying
from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.codec import PATH, TaintKey
from gpuvitals.kube.slices.owner import KnownOwner
from gpuvitals.kube.slices.ports import PoolSource, PublisherSettings, SliceListener
from gpuvitals.kube.slices.publish_state import DesiredPool, PublishState
from gpuvitals.kube.slices.reconciler import SliceReconciler
from gpuvitals.kube.slices.refused_devices import RefusedDevices
from gpuvitals.kube.slices.taint_support import TaintSupport, probe_mode
from gpuvitals.kube.slices.watch import SliceWatchHooks
from gpuvitals.kube.slices.write_failures import WriteFailures
from gpuvitals.kube.slices.writes import SliceWriter, WriterParts
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
_SYNC_SECONDS = 1.0
_RESYNC_SECONDS = 600.0


class SlicePublisher:
    """Writes the desired pool and watches the stored slices. Thread safe."""

    def __init__(
        self,
        settings: PublisherSettings,
        transport: Transport,
        metrics: NodeMetrics,
        listener: SliceListener,
    ) -> None:
        self._metrics = metrics
        # A daemon: a write that outlives the stop deadline can't be recalled, and no local state depends on it.
        self._thread = StoppableThread(self._run, name="slices", daemon=True)
        self._state = PublishState(self._thread.stopping, settings.priority)
        self._cache = SliceCache(settings.annotation, settings.taint_times)
        self._taint_support = TaintSupport(
            settings.mode, lambda: probe_mode(transport, settings.driver, settings.node)
        )
        self._failures = WriteFailures(listener)
        self._refused = RefusedDevices(metrics, listener)
        selection = _selection(settings)
        hooks = SliceWatchHooks(self._cache, self._taint_support, self._state)
        self._reflector = Reflector(selection, transport, metrics, hooks)
        parts = WriterParts(
            cache=self._cache,
            taint_support=self._taint_support,
            failures=self._failures,
            refused=self._refused,
            owner=KnownOwner(transport, settings.node, settings.owner_seconds),
            reflector=self._reflector,
        )
        list_call = Call(method="GET", path=selection.path, query=selection.query)
        writer = SliceWriter(transport, metrics, parts, list_call)
        self._reconciler = SliceReconciler(settings, parts, writer, self._state, listener)

    @property
    def mode(self) -> ServiceMode | None:
        """How devices leave service; None until it is known, WITHDRAW once the server was found to drop taints."""
        return self._taint_support.value

    @property
    def is_synced(self) -> bool:
        """Whether the stored slices were read."""
        return self._reflector.synced.is_set()

    @property
    def is_pending(self) -> bool:
        """Whether the newest pool is not stored yet."""
        return self._state.is_pending

    @property
    def blocked(self) -> str:
        """The reason why the stored slices differ from the desired ones; empty for none."""
        return (
            self._failures.text
            or self._refused.left_out
            or ("" if self._reflector.synced.is_set() else self._reflector.problem)
        )

    def taint_times(self) -> dict[TaintKey, str]:
        """The timeAdded of each taint, for `PublisherSettings.taint_times` of the next process."""
        return self._cache.taint_times()

    def start(self) -> None:
        """Starts to watch and to write."""
        self._reflector.start()
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops both. A write in progress is finished within the deadline; stored slices stay."""
        deadline = time.monotonic() + deadline_seconds
        self._thread.stopping.set()
        self._state.stop()
        self._reflector.stop()
        self._thread.stop(deadline_seconds)
        self._reflector.stop(max(0.0, deadline - time.monotonic()))

    def publish(self, source: PoolSource, revision: int) -> None:
        """Replaces the desired pool. Returns at once."""
        self._state.set_desired(DesiredPool(source, revision))

    def set_kubelet_connected(self, connected: bool) -> None:
        """Records whether a kubelet serves this driver; slices are created only then."""
        self._state.set_kubelet_connected(connected)

    def set_active(self, active: bool) -> None:
        """Records whether this process is the one that writes: in a rolling update there are two for a while."""
        self._state.set_active(active)

    def _run(self) -> None:
        step = retrying(SLICES, self._reconciler, self._thread.stopping, self._metrics)
        while self._wait_for_work():
            try:
                step(self._reconciler.reconcile)
            except ApiError as error:
                log.debug("publisher stopped", extra=keys(error=str(error)))

    def _wait_for_work(self) -> bool:
        """Returns when there is something to compare; False when stopped."""
        now = time.monotonic()
        self._state.wait_for_work(max(0.0, min(_IDLE_SECONDS, self._refused.refused_until(now) - now)))
        stopping = self._thread.stopping
        # No write before all stored slices are known, and none while a later list is being reported.
        while not stopping.is_set() and not self._reflector.synced.wait(_SYNC_SECONDS):
            continue
        return not stopping.is_set()


def _selection(settings: PublisherSettings) -> Selection:
    selectors = f"spec.driver={settings.driver},spec.nodeName={settings.node}"
    return Selection(
        path=PATH,
        query=(("fieldSelector", selectors),),
        resync_seconds=_RESYNC_SECONDS,
        is_cached=False,
        rejoin_seconds=0.5,
    )
