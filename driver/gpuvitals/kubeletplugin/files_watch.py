"""Checks the driver files that Prepare needs, so that a device which can't be prepared is not offered.

The checks call the code that prepares claims. A missing file counts after two consecutive checks, because an upgrade
replaces files one by one; a restored file counts at once. So a driver container may start after the agent.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from gpuvitals.inventory.device import device_name, is_offered
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot, brief
from gpuvitals.kubeletplugin.held_claim import HeldDevice, MigIds
from gpuvitals.kubeletplugin.outcome import Refusal
from gpuvitals.model.files import FilesCheck, Lack
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, Reason
from gpuvitals.observability.logs import keys
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_CHECK_SECONDS = 2.0


class PciBus(Protocol):
    """The machine's PCI devices."""

    def has_gpu(self) -> bool:
        """Whether the machine has an NVIDIA GPU, even one that NVML does not list."""
        ...


class Waker(Protocol):
    """The agent's loop."""

    def wake(self) -> None:
        """Makes the loop run its next turn now. Contract: returns at once."""
        ...


class FilesWatch:
    """A thread that checks every 2 s, and at once after a change of the devices. `agent` is woken after a new result."""

    def __init__(self, root: DriverRoot, bus: PciBus, agent: Waker) -> None:
        self._root, self._bus, self._agent = root, bus, agent
        self._gpus: tuple[Gpu, ...] = ()
        self._latest = FilesCheck(checked=frozenset(), lacks={})
        self._suspects: dict[GpuUuid | None, Reason] = {}
        self._problem = ""
        self._wake = threading.Event()
        self._thread = StoppableThread(self._run, name="driver-files", daemon=False)

    def latest(self, gpus: Sequence[Gpu]) -> FilesCheck:
        """The newest result. New devices are checked at once, for the next call. Called on one thread only."""
        known = tuple(gpus)
        if known != self._gpus:
            self._gpus = known
            self._wake.set()
        return self._latest

    @property
    def problem(self) -> str:
        """The full reason why claims can't be prepared here; "" if nothing is missing. Thread safe."""
        return self._problem

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the thread within the deadline."""
        self._thread.stopping.set()
        self._wake.set()
        self._thread.stop(deadline_seconds)

    def check(self) -> None:
        """Checks all devices once. Called by the thread, and by tests in its place."""
        known = self._gpus
        offered = [gpu for gpu in known if is_offered(gpu)]
        common = self._root.refusal() if offered or self._bus.has_gpu() else None
        held = {gpu.uuid: _held(gpu, known) for gpu in offered}
        refusals: dict[GpuUuid | None, Refusal] = {None: common} if common is not None else {}
        for uuid, device in held.items():
            refusal = common or (self._root.refusal_of(device) if device is not None else None)
            if refusal is not None:
                refusals[uuid] = refusal
        suspects = {key: Reason(refusal.code.value) for key, refusal in refusals.items()}
        certain = {key for key, reason in suspects.items() if self._suspects.get(key) == reason}
        self._suspects = suspects
        self._keep({key: refusal for key, refusal in refusals.items() if key in certain}, held, refusals)

    def _keep(
        self,
        certain: Mapping[GpuUuid | None, Refusal],
        held: Mapping[GpuUuid, HeldDevice | None],
        suspected: Mapping[GpuUuid | None, Refusal],
    ) -> None:
        lacks = {uuid: _lack(refusal) for uuid, refusal in certain.items() if uuid is not None}
        # A lack that only one check has found leaves a device as it was.
        lacks |= {
            uuid: lack
            for uuid, lack in self._latest.lacks.items()
            if uuid in held and uuid in suspected and uuid not in lacks
        }
        settled = {uuid for uuid in held if uuid not in suspected or uuid in lacks}
        settled |= self._latest.checked & held.keys()
        common = certain.get(None)
        check = FilesCheck(
            checked=frozenset(settled), lacks=lacks, node=None if common is None else _lack(common)
        )
        before, self._latest = self._latest, check
        if certain or not lacks:
            self._problem = _problem(certain, len(held))
        if check != before:
            if (check.lacks, check.node) != (before.lacks, before.node):
                log.warning("driver files", extra=keys(reason=self._problem or "nothing is missing"))
            self._agent.wake()

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            self._wake.clear()
            self.check()
            self._wake.wait(_CHECK_SECONDS)


def _held(gpu: Gpu, gpus: Sequence[Gpu]) -> HeldDevice | None:
    """The device as a claim would hold it; None if its GPU's minor number is unknown, which Prepare refuses itself."""
    minor = next((each.minor for each in gpus if each.uuid == gpu.gpu_uuid), None)
    if minor is None:
        return None
    mig = gpu.mig
    return HeldDevice(
        uuid=gpu.uuid,
        device=device_name(gpu),
        minor=minor,
        requests=(),
        mig=None
        if mig is None
        else MigIds(gpu_instance=mig.gpu_instance, compute_instance=mig.compute_instance),
    )


def _lack(refusal: Refusal) -> Lack:
    return Lack(reason=Reason(refusal.code.value), message=brief(refusal))


def _problem(certain: Mapping[GpuUuid | None, Refusal], devices: int) -> str:
    common = certain.get(None)
    if common is not None:
        return f"no claim can be prepared here: {common}"
    if not certain:
        return ""
    first = next(iter(certain.values()))
    return f"{len(certain)} of {devices} devices can't be prepared: {first}"
