"""What a GPU is, as opposed to how it is: identity and facts that hold until the next driver load."""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.model.ids import GpuUuid, PciBusId


class DeviceKind(Enum):
    """What a published device is."""

    GPU = "gpu"
    MIG = "mig"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """What makes a device a MIG instance: its parent GPU, its profile (`1g.10gb`), its instance ids and its placement.

    `placement` is the first memory slice of its GPU instance, `compute_placement` the first compute slice of a compute
    instance that is smaller than its GPU instance; None is not read. The ids are dealt out anew with every division, so
    that profile and placement say which piece of silicon it is.
    The engines are those that it has or shares with the other compute instances of its GPU instance; 0 is none, or
    not read.
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
    """One GPU (or MIG instance) of this node, as read while it was healthy.

    `None` and the empty string mean "not read": such a key is left out of the slice where the design allows it.
    `expected_links` is the number of NVLinks the model should have active; 0 is a model without NVLink.
    `mig_enabled`: the GPU is in MIG mode, so that its instances are given out and it is not. `mig` is set on an
    instance; its `minor` is None, since its device node is the GPU's.
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
        """The GPU that the device is, or is an instance of."""
        return self.uuid if self.mig is None else self.mig.parent
