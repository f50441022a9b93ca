"""Watches what Prepare needs of the driver, so that a device which can't be prepared is not offered.

It calls the code that prepares claims. A lack counts once two looks in a row saw it, since an upgrade replaces files one
by one; files that are back count at once. A driver container that starts late needs no notice to the agent.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from gpuvitals.inventory.device import device_name, is_offered
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot, brief
from gpuvitals.kubeletplugin.held_claim import HeldDevice, MigIds
from gpuvitals.kubeletplugin.outcome import Refusal
from gpuvitals.model.files import FilesSeen, Lack
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, Reason
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0


class FilesWatch:
    """A thread that looks every 2 s, and at once where the devices have changed."""

    def __init__(self, root: DriverRoot, has_gpu: Callable[[], bool], changed: Callable[[], None]) -> None:
        """`has_gpu` says whether the machine has a GPU, known or not; `changed` is called when `seen_of` has news."""
        self._root, self._has_gpu, self._changed = root, has_gpu, changed
        self._gpus: tuple[Gpu, ...] = ()
        self._seen = FilesSeen(looked_at=frozenset(), lacks={})
        self._suspects: dict[GpuUuid | None, Reason] = {}
        self._problem = ""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="driver-files")

    def seen_of(self, gpus: Sequence[Gpu]) -> FilesSeen:
        """The newest look. Devices that are new are looked at next, at once. One thread asks."""
        known = tuple(gpus)
        if known != self._gpus:
            self._gpus = known
            self._wake.set()
        return self._seen

    @property
    def problem(self) -> str:
        """Why claims can't be prepared here, in full; "" where nothing is missing. Any thread."""
        return self._problem

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the thread."""
        self._stop.set()
        self._wake.set()
        self._thread.join(deadline_seconds)

    def look(self) -> None:
        """One look. Public for those who own the time."""
        known = self._gpus
        offered = [gpu for gpu in known if is_offered(gpu)]
        common = self._root.lacking() if offered or self._has_gpu() else None
        held = {gpu.uuid: _held(gpu, known) for gpu in offered}
        refusals: dict[GpuUuid | None, Refusal] = {None: common} if common is not None else {}
        for uuid, device in held.items():
            refusal = common or (self._root.lacking_of(device) if device is not None else None)
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
        # A suspicion that is not certain yet leaves a device as it was.
        lacks |= {
            uuid: lack
            for uuid, lack in self._seen.lacks.items()
            if uuid in held and uuid in suspected and uuid not in lacks
        }
        settled = {uuid for uuid in held if uuid not in suspected or uuid in lacks}
        settled |= self._seen.looked_at & held.keys()
        common = certain.get(None)
        seen = FilesSeen(
            looked_at=frozenset(settled), lacks=lacks, node=None if common is None else _lack(common)
        )
        before, self._seen = self._seen, seen
        if certain or not lacks:
            self._problem = _told(certain, len(held))
        if seen != before:
            if (seen.lacks, seen.node) != (before.lacks, before.node):
                log.warning("driver files", extra=keys(reason=self._problem or "nothing is missing"))
            self._changed()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self.look()
            self._wake.wait(_LOOK_SECONDS)


def _held(gpu: Gpu, gpus: Sequence[Gpu]) -> HeldDevice | None:
    """The device as a claim would hold it; None where its GPU's minor is not known, which Prepare refuses by itself."""
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


def _told(certain: Mapping[GpuUuid | None, Refusal], devices: int) -> str:
    common = certain.get(None)
    if common is not None:
        return f"no claim can be prepared here: {common}"
    if not certain:
        return ""
    first = next(iter(certain.values()))
    return f"{len(certain)} of {devices} devices can't be prepared: {first}"
