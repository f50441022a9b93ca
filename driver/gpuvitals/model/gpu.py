"""Identity and facts of a GPU, which hold until the next driver load. Its health is in `health`."""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.model.ids import GpuUuid, PciBusId


class DeviceKind(Enum):
    """The kind of a published device."""

    GPU = "gpu"
    MIG = "mig"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """The MIG facts of an instance: its parent GPU, its profile (`1g.10gb`), its instance IDs and its placement.

    `placement` is the first memory slice of its GPU instance, `compute_placement` the first compute slice of a compute
    instance that is smaller than its GPU instance; None means not read. The driver reassigns IDs at every division, so
    only profile and placement identify the silicon. The engines may be shared with the other compute instances of the
    GPU instance; 0 means none, or not read.
    """

    parent: GpuUuid
    profile: str
    gpu_instance: int
    compute_instance: int
    multiprocessors: int = 0
    copy_engines: int = 0
    decoders: int = 0
    encoders: int = 0
    jpeg_engines: int = 0
    placement: int | None = None
    compute_placement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU or MIG instance of this node, as read while it was healthy.

    None and the empty string mean "not read"; such a key is left out of the slice if the design allows that.
    `expected_links` is the number of NVLinks that should be active, 0 for a model without NVLink. `mig_enabled`: the
    GPU is in MIG mode, so its instances are offered instead of it. `mig` is set on an instance, whose `minor` is None:
    its device node is that of the GPU.
    """

    uuid: GpuUuid
    bus_id: PciBusId
    kind: DeviceKind = DeviceKind.GPU
    product_name: str
    architecture: str = ""
    brand: str = ""
    serial: str = ""
    minor: int | None = None
    memory_bytes: int
    numa_node: int | None = None
    pcie_root: str = ""
    driver_version: str = ""
    cuda_driver_version: str = ""
    cuda_compute_capability: str = ""
    expected_links: int | None = None
    mig_enabled: bool = False
    mig: MigInstance | None = None

    @property
    def gpu_uuid(self) -> GpuUuid:
        """The UUID of the GPU, or of the parent GPU of an instance."""
        return self.uuid if self.mig is None else self.mig.parent
