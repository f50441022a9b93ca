"""Reads the MIG mode and the MIG instances of a GPU through pynvml. Worker process only.

Source: docs.nvidia.com NVML API reference, "Multi Instance GPU Management"; NVIDIA/go-nvlib pkg/nvlib/device (the answers
for an index without instance, and the names of profiles).
"""

from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pynvml

from gpuvitals.signals.nvml_worker.poll import Collector
from gpuvitals.signals.nvml_worker.protocol import (
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    NOT_FOUND,
    NOT_SUPPORTED,
    InstanceFacts,
    MigFacts,
)

_DISABLED, _ENABLED = 0, 1
_NAMED = " MIG "
_COMPUTE = "c."
"""Part of the profile of a compute instance that is smaller than its GPU instance: `1c.3g.40gb`."""
_MIB, _GIB = 1 << 20, 1 << 30
_EIGHTHS = 8
"""MIG divides the memory of a GPU into eighths."""


def division(handle: Any) -> MigFacts:
    """The MIG mode and all instances. Raises NVMLError and ValueError if they can't be read."""
    try:
        current = int(pynvml.nvmlDeviceGetMigMode(handle)[0])
    except pynvml.NVMLError as error:
        if error.value not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):
            raise
        return MigFacts(enabled=False)
    if current == _DISABLED:
        return MigFacts(enabled=False)
    if current != _ENABLED:
        raise ValueError(f"MIG mode {current} is not known")
    count = int(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    if not count:
        # Documented for a GPU with MIG off. It contradicts the mode, so it does not prove that instances are gone.
        raise ValueError("MIG is on, and the driver reports that no instance can exist")
    whole_bytes = Collector().take("memory", lambda: int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)) or 0
    instances: list[InstanceFacts] = []
    for index in range(count):
        try:
            child = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError as error:
            if error.value in (NOT_FOUND, INVALID_ARGUMENT):
                continue
            raise
        instances.append(_placed(handle, _instance(child, whole_bytes)))
    return MigFacts(enabled=True, instances=tuple(instances))


def profile(name: str, attributes: Any, whole_bytes: int) -> str:
    """The profile, such as `1g.10gb`: the end of the instance's name, else computed from its slices and memory.

    `NVIDIA A100-SXM4-80GB MIG 1g.10gb` is such a name. The profile of a compute instance that is smaller than its GPU
    instance has a prefix: `1c.2g.20gb`.
    """
    _, found, named = name.rpartition(_NAMED)
    if found:
        return named
    if attributes is None or not whole_bytes:
        return ""
    compute, gpu = int(attributes.computeInstanceSliceCount), int(attributes.gpuInstanceSliceCount)
    share = Fraction(int(attributes.memorySizeMB) * _MIB, whole_bytes)
    gib = round(Fraction(ceil(share * _EIGHTHS), _EIGHTHS) * ceil(Fraction(whole_bytes, _GIB)))
    return f"{gpu}g.{gib}gb" if compute == gpu else f"{compute}c.{gpu}g.{gib}gb"


def _placed(gpu: Any, facts: InstanceFacts) -> InstanceFacts:
    """The facts with the placement, if it is readable."""
    found = Collector()

    def gpu_start() -> int:
        instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu, facts.gpu_instance)
        return int(pynvml.nvmlGpuInstanceGetInfo(instance).placement.start)

    def compute_start() -> int:
        instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu, facts.gpu_instance)
        part = pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, facts.compute_instance)
        return int(pynvml.nvmlComputeInstanceGetInfo_v2(part).placement.start)

    is_smaller = _COMPUTE in facts.profile or not facts.profile
    return msgspec.structs.replace(
        facts,
        gpu_start=found.take("placement", gpu_start),
        compute_start=found.take("compute placement", compute_start) if is_smaller else None,
    )


def _instance(child: Any, whole_bytes: int) -> InstanceFacts:
    found = Collector()
    attributes = found.take("attributes", lambda: pynvml.nvmlDeviceGetAttributes_v2(child))
    name = found.take("name", lambda: str(pynvml.nvmlDeviceGetName(child))) or ""
    known = InstanceFacts(
        uuid=str(pynvml.nvmlDeviceGetUUID(child)),
        profile=profile(name, attributes, whole_bytes),
        gpu_instance=int(pynvml.nvmlDeviceGetGpuInstanceId(child)),
        compute_instance=int(pynvml.nvmlDeviceGetComputeInstanceId(child)),
    )
    if attributes is None:
        return known
    return InstanceFacts(
        uuid=known.uuid,
        profile=known.profile,
        gpu_instance=known.gpu_instance,
        compute_instance=known.compute_instance,
        memory_bytes=int(attributes.memorySizeMB) * _MIB,
        multiprocessors=int(attributes.multiprocessorCount),
        copy_engines=int(attributes.sharedCopyEngineCount),
        decoders=int(attributes.sharedDecoderCount),
        encoders=int(attributes.sharedEncoderCount),
        jpeg_engines=int(attributes.sharedJpegCount),
    )
