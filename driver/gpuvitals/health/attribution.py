"""Attribution of signals to GPUs and MIG instances. A signal affects no more devices than it names."""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from gpuvitals.model.gpu import DeviceKind, Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    GpuSignal,
    IdentityReport,
    InitFailureReport,
    OffBusReport,
    PresenceReport,
    Reading,
    RecoveryActionReport,
    XidReport,
)


def affected_gpus(signal: GpuSignal, gpus: Iterable[Gpu]) -> tuple[GpuUuid, ...]:
    """The devices that `signal` affects; empty if it names no GPU of the node.

    A fault of an unknown MIG instance is attributed to its GPU, and never to other instances.
    """
    known = tuple(gpus)
    found = tuple(gpu.uuid for gpu in known if affects(signal, gpu))
    if found or not isinstance(signal, XidReport) or signal.gpu_instance is None:
        return found
    return tuple(gpu.uuid for gpu in known if gpu.mig is None and _same_gpu(signal, gpu))


def affects(signal: GpuSignal, gpu: Gpu) -> bool:
    """Whether `signal` affects `gpu`.

    A fault of a GPU affects all of its MIG instances. A fault that names an instance affects that instance alone.
    """
    match signal:
        case Reading() | Checkup() | ClearReport():
            return signal.uuid in (gpu.uuid, gpu.gpu_uuid)
        case XidReport():
            return _same_gpu(signal, gpu) and _same_instance(signal, gpu)
        case (
            OffBusReport()
            | InitFailureReport()
            | RecoveryActionReport()
            | IdentityReport()
            | PresenceReport()
        ):
            return _same_gpu(signal, gpu)
        case _:
            assert_never(signal)


def without_mig_links(signal: GpuSignal, gpu: Gpu) -> GpuSignal:
    """`signal` without NVLink states if `gpu` is in MIG mode, which does not use NVLink."""
    in_mig_mode = gpu.mig_enabled or gpu.mig is not None
    if in_mig_mode and isinstance(signal, Reading) and signal.links is not None:
        return replace(signal, links=())
    return signal


def _same_gpu(
    signal: XidReport
    | OffBusReport
    | InitFailureReport
    | RecoveryActionReport
    | IdentityReport
    | PresenceReport,
    gpu: Gpu,
) -> bool:
    if signal.uuid is not None and signal.uuid in (gpu.uuid, gpu.gpu_uuid):
        return True
    return signal.uuid is None and signal.bus_id is not None and signal.bus_id == gpu.bus_id


def _same_instance(signal: XidReport, gpu: Gpu) -> bool:
    if signal.gpu_instance is None:
        return True
    if gpu.kind is DeviceKind.GPU or gpu.mig is None:
        return False
    same_compute = signal.compute_instance in (None, gpu.mig.compute_instance)
    return signal.gpu_instance == gpu.mig.gpu_instance and same_compute
