"""Whether the server keeps device taints: a dry-run create shows it, and is repeated when the server may have changed."""

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

_PROBE_AGAIN_SECONDS = 600.0
"""While several servers are upgraded one by one, the dry run may reach an old one and the watch a new one."""


class TaintSupport:
    """The mode in which devices leave service: the configured one, else the one that the server supports.

    A server can be upgraded or rolled back while the agent runs, so `doubt` invalidates the answer. An answer without
    taints also expires. `value` is None until the mode is known. One thread uses it; `doubt` is thread safe.
    """

    def __init__(
        self,
        configured: ServiceMode | None,
        probe: Callable[[], ServiceMode],
        again_seconds: float = _PROBE_AGAIN_SECONDS,
    ) -> None:
        """`probe` is `probe_mode`; it raises ApiError. `again_seconds` is the lifetime of an answer without taints."""
        self._configured = configured
        self._probe = probe
        self._again_seconds = again_seconds
        self._probed_at = 0.0
        self._is_doubted = False
        self._failures = CauseLog(log, "service mode not probed again")
        self.value = configured

    def doubt(self) -> None:
        """Invalidates the answer, since another server may answer now."""
        self._is_doubted = True

    def current(self) -> ServiceMode:
        """The mode to publish in. Raises ApiError while no mode is known yet."""
        known = self.value
        if known is not None and not self._is_doubted and not self._is_due():
            return known
        self._is_doubted = False
        try:
            self.value = self._configured or self._probe()
        except ApiError as error:
            if known is None:
                raise
            self._is_doubted = True
            self._failures.failed(error, mode=known.value)
            return known
        self._probed_at = time.monotonic()
        if self.value is not known:
            log.info("service mode", extra=keys(mode=self.value.value))
        return self.value

    def drops_taints(self) -> None:
        """Records that the server stored a slice without its taints."""
        self.value = ServiceMode.WITHDRAW
        self._probed_at = time.monotonic()

    def _is_due(self) -> bool:
        was_probed = self._configured is None and self.value is ServiceMode.WITHDRAW
        return was_probed and time.monotonic() - self._probed_at > self._again_seconds


def probe_mode(transport: Transport, driver: str, node: str) -> ServiceMode:
    """TAINT if a taint with effect None survives a dry run, else WITHDRAW. Raises ApiError.

    Kubernetes 1.35 drops taints by default. 1.34 with the gate on refuses the effect None, and would refuse every slice
    that has a degraded device.
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
