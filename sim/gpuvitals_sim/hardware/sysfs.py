"""A folder with the layout of /sys: the bus with a node's GPUs, and the driver's module."""

import shutil
from pathlib import Path

from gpuvitals_sim.hardware.state_file import GpuScript

_CONFIG_BYTES = 64


class SysfsFolder:
    """Writes below `root`. The links are relative, so the folder may be moved."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bus = root / "bus" / "pci" / "devices"
        self._driver = root / "bus" / "pci" / "drivers" / "nvidia"

    def load_driver(self, version: str) -> None:
        """Replaces the module's directory; its new inode distinguishes this load of the driver from the last one."""
        module = self.root / "module" / "nvidia"
        module.parent.mkdir(parents=True, exist_ok=True)
        self._driver.mkdir(parents=True, exist_ok=True)
        self._bus.mkdir(parents=True, exist_ok=True)
        fresh, old = module.with_name("nvidia.loading"), module.with_name("nvidia.unloading")
        fresh.mkdir()
        (fresh / "version").write_text(version + "\n", encoding="ascii")
        if module.exists():
            module.rename(old)
        fresh.rename(module)
        shutil.rmtree(old, ignore_errors=True)

    def add(self, gpu: GpuScript) -> None:
        """Puts a GPU on the bus, under a root port of its own, bound to the driver."""
        device = self._device(gpu)
        device.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("vendor", "0x10de"),
            ("device", gpu.pci_device),
            ("class", "0x030200"),
            ("numa_node", str(gpu.numa_node)),
        ):
            (device / name).write_text(text + "\n", encoding="ascii")
        _link(device / "driver", Path("../../../../bus/pci/drivers/nvidia"))
        self.answer(gpu)
        _link(self._bus / gpu.bus_id, Path("../../..") / device.relative_to(self.root))

    def answer(self, gpu: GpuScript, *, answers: bool = True) -> None:
        """Makes the GPU's config space readable, or all ones as that of a GPU off the bus."""
        vendor = bytes.fromhex("de10") + int(gpu.pci_device, 16).to_bytes(2, "little")
        content = vendor.ljust(_CONFIG_BYTES, b"\x00") if answers else b"\xff" * _CONFIG_BYTES
        (self._device(gpu) / "config").write_bytes(content)

    def fatal_errors(self, gpu: GpuScript, count: int) -> None:
        """Sets the kernel's count of fatal errors of the device."""
        text = f"Undefined 0\nDLP {count}\nTOTAL_ERR_FATAL {count}\n"
        (self._device(gpu) / "aer_dev_fatal").write_text(text, encoding="ascii")

    def remove(self, gpu: GpuScript) -> None:
        """Removes the GPU from the bus."""
        (self._bus / gpu.bus_id).unlink(missing_ok=True)
        shutil.rmtree(self._device(gpu), ignore_errors=True)

    def _device(self, gpu: GpuScript) -> Path:
        domain, bus, _ = gpu.bus_id.split(":")
        port = f"{int(bus, 16) - 1:02x}"
        root = self.root / "devices" / f"pci{domain}:{port}"
        return root / f"{domain}:{port}:01.0" / gpu.bus_id


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
