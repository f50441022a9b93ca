"""Resolves a GPU of a node by device name, UUID, or PCI bus ID in any spelling. Pure."""

from collections.abc import Iterable

from gpuvitals.inventory.device import silicon
from gpuvitals.kube.slices.view import DeviceView
from gpuvitals.model.gpu_name import normalize_gpu_name


class GpuNames:
    """The devices of one node under all their names. The names of a GPU in MIG mode come from its instances."""

    def __init__(self, views: Iterable[DeviceView]) -> None:
        self._devices: dict[str, str] = {}
        for view in views:
            whole = silicon(view.device)
            if whole != view.device:
                self._add(whole, (whole, view.parent_uuid, view.bus_id))
                self._add(view.device, (view.device, view.uuid))
            else:
                self._add(view.device, (view.device, view.uuid, view.bus_id))

    @property
    def devices(self) -> tuple[str, ...]:
        """The device names, sorted."""
        return tuple(sorted(set(self._devices.values())))

    def device(self, name: str) -> str | None:
        """The device of that name; None for an unknown name."""
        return self._devices.get(normalize_gpu_name(name))

    def key(self, name: str) -> str:
        """A key that is equal for all names of one device; for an unknown name, its normalised spelling."""
        return self.device(name) or normalize_gpu_name(name)

    def _add(self, device: str, names: tuple[str, ...]) -> None:
        for name in names:
            if name:
                self._devices.setdefault(normalize_gpu_name(name), device)
