"""Whether the server keeps device taints, asked by a create that is never stored, and asked again of another server."""

import logging
import time
from collections.abc import Callable

import msgspec

from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Invalid, Retryable
from gpuvitals.kube.slices.codec import API_VERSION, PATH, encode, observed_slice
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 600.0
"""Of several servers that are upgraded one by one the question may go to an old one while the watch is on a new one."""


class TaintSupport:
    """How devices leave service: as configured, else as the server was found to be.

    A server can be upgraded under the agent, or rolled back: then somebody has to doubt the answer. Where taints were
    dropped it is asked for now and then as well. One thread uses it; `doubt` comes from any.
    """

    def __init__(
        self,
        configured: ServiceMode | None,
        ask: Callable[[], ServiceMode],
        again_seconds: float = _ASK_AGAIN_SECONDS,
    ) -> None:
        """`ask` is `probe_mode`; it raises ApiError. `again_seconds` is how long an answer counts that withdraws."""
        self._configured = configured
        self._ask = ask
        self._again_seconds = again_seconds
        self._asked_at = 0.0
        self._is_doubted = False
        self._failures = CauseLog(log, "service mode not asked again")
        self.value = configured

    def doubt(self) -> None:
        """The server may be another one than the one that was asked."""
        self._is_doubted = True

    def current(self) -> ServiceMode:
        """The mode to publish in. Raises ApiError where none is known yet."""
        known = self.value
        if known is not None and not self._is_doubted and not self._is_due():
            return known
        self._is_doubted = False
        try:
            self.value = self._configured or self._ask()
        except ApiError as error:
            if known is None:
                raise
            self._is_doubted = True
            self._failures.failed(error, mode=known.value)
            return known
        self._asked_at = time.monotonic()
        if self.value is not known:
            log.info("service mode", extra=keys(mode=self.value.value))
        return self.value

    def drops_taints(self) -> None:
        """The server stored a slice without its taints."""
        self.value = ServiceMode.WITHDRAW
        self._asked_at = time.monotonic()

    def _is_due(self) -> bool:
        asked = self._configured is None and self.value is ServiceMode.WITHDRAW
        return asked and time.monotonic() - self._asked_at > self._again_seconds


def probe_mode(transport: Transport, driver: str, node: str) -> ServiceMode:
    """TAINT where a taint with effect None survives a dry run, else WITHDRAW. Raises ApiError.

    1.35 with its defaults drops taints; 1.34 with the gate on refuses the effect None, and then every slice with a
    degraded device would be refused with it.
    """
    taint = {"key": f"{driver}/probe", "value": "probe", "effect": "None"}
    body = {
        "apiVersion": API_VERSION,
        "kind": "ResourceSlice",
        "metadata": {"generateName": "gpuvitals-probe-"},
        "spec": {
            "driver": driver,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "probe", "taints": [taint]}],
        },
    }
    call = Call(method="POST", path=PATH, query=(("dryRun", "All"),), body=encode(body))
    try:
        answer = transport.request(call)
    except Invalid as error:
        if any("taints" in field for field in error.fields):
            return ServiceMode.WITHDRAW
        raise
    try:
        stored = observed_slice(answer, "")
    except msgspec.DecodeError as error:
        raise Retryable(f"dry run of a slice: {error}") from error
    return ServiceMode.TAINT if stored.taints else ServiceMode.WITHDRAW
