"""The Node that owns the slices, looked up now and then: its UID changes when it is created anew."""

import logging
import time
from collections.abc import Callable

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.slices.metadata import NodeOwner

log = logging.getLogger(__name__)


class KnownOwner:
    """`look_up` asks the API server and raises ApiError; an answer is used for `seconds`. One thread uses it."""

    def __init__(self, look_up: Callable[[], NodeOwner], seconds: float) -> None:
        self._look_up = look_up
        self._seconds = seconds
        self._known: tuple[NodeOwner, float] | None = None
        self._failures = CauseLog(log, "node not read, its last uid is used")

    def current(self) -> NodeOwner:
        """The Node as it was looked up last. Raises ApiError where it never was."""
        if self._known is None:
            return self.fresh()
        owner, at = self._known
        if time.monotonic() - at < self._seconds:
            return owner
        try:
            return self.fresh()
        except ApiError as error:
            # A fault must not wait for the Node to be readable.
            self._failures.failed(error)
            self._known = (owner, time.monotonic())
            return owner

    def fresh(self) -> NodeOwner:
        """The Node as it is now. Raises ApiError."""
        owner = self._look_up()
        self._known = (owner, time.monotonic())
        return owner
