"""The Node that owns the slices, read again periodically: its UID changes with its re-creation."""

import logging
import time

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.nodes import node_owner
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.transport import Transport

log = logging.getLogger(__name__)


class KnownOwner:
    """Caches the owner for `seconds`. One thread uses it."""

    def __init__(self, transport: Transport, node: str, seconds: float) -> None:
        self._transport = transport
        self._node = node
        self._seconds = seconds
        self._known: tuple[NodeOwner, float] | None = None
        self._failures = CauseLog(log, "node not read, its last uid is used")

    def current(self) -> NodeOwner:
        """The Node as it was read last. Raises ApiError for a Node that was never read."""
        if self._known is None:
            return self.fresh()
        owner, at = self._known
        if time.monotonic() - at < self._seconds:
            return owner
        try:
            return self.fresh()
        except ApiError as error:
            # A fault must not wait until the Node can be read.
            self._failures.failed(error)
            self._known = (owner, time.monotonic())
            return owner

    def fresh(self) -> NodeOwner:
        """The Node as it is now. Raises ApiError."""
        owner = node_owner(self._transport, self._node)
        self._known = (owner, time.monotonic())
        return owner
