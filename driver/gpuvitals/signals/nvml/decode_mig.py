"""Turns the worker's MIG facts into a GPU of the model and its MIG instances. Pure."""

from dataclasses import replace

from gpuvitals.inventory.device import device_name
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid
from gpuvitals.signals.nvml_worker.protocol import InstanceFacts, MigFacts

_MAX_ID = 255
_MAX_UUID = 64
_MAX_PROFILE = 32


def divided(gpu: Gpu, facts: MigFacts, known: tuple[Gpu, ...] = ()) -> tuple[Gpu, tuple[Gpu, ...]]:
    """The GPU with its MIG mode, and its instances in the order of their IDs. Raises ValueError naming the wrong field.

    `known` are the instances of the previous answer. They supply placements that can't be read now: a device name
    contains the placement, and must not change because a call failed.
    """
    ordered = sorted(facts.instances, key=lambda each: (each.gpu_instance, each.compute_instance))
    instances = tuple(_instance(gpu, each, known) for each in ordered) if facts.enabled else ()
    identities: dict[str, set[object]] = {
        "uuid": {each.uuid for each in instances},
        "ids": {_ids(each) for each in instances},
        "profile and placement": {device_name(each) for each in instances},
    }
    for key, distinct in identities.items():
        if len(distinct) != len(instances):
            raise ValueError(f"gpu {gpu.uuid}: two MIG instances have the same {key}")
    return replace(gpu, mig_enabled=facts.enabled), instances


def as_published(gpu: Gpu) -> Gpu:
    """The GPU for the rest of the agent. In MIG mode it can't use NVLink, so it expects no links.

    Source: NVIDIA MIG User Guide, "Application Considerations"; bottlerocket-os/bottlerocket #4418: the links of an
    H100 are up with MIG off and down with MIG on.
    """
    return replace(gpu, expected_links=0) if gpu.mig_enabled else gpu


def refreshed(gpu: Gpu, instances: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The instances, with the present facts of their parent `gpu`."""
    return tuple(_part(gpu, each.uuid, each.mig, each.memory_bytes) for each in instances if each.mig)


def _instance(gpu: Gpu, facts: InstanceFacts, known: tuple[Gpu, ...]) -> Gpu:
    if not facts.uuid.startswith("MIG-") or not facts.uuid.isascii() or len(facts.uuid) > _MAX_UUID:
        raise ValueError(f"gpu {gpu.uuid}: uuid {facts.uuid[:_MAX_UUID]!r} of an instance is none of MIG")
    for name, number in (("gpu", facts.gpu_instance), ("compute", facts.compute_instance)):
        if not 0 <= number <= _MAX_ID:
            raise ValueError(f"gpu {gpu.uuid}: {name} instance id {number} is not from 0 to {_MAX_ID}")
    for name, start in (("gpu", facts.gpu_start), ("compute", facts.compute_start)):
        if start is not None and not 0 <= start <= _MAX_ID:
            raise ValueError(f"gpu {gpu.uuid}: {name} instance placement {start} is not from 0 to {_MAX_ID}")
    before = next((each.mig for each in known if each.uuid == facts.uuid), None)
    named = "".join(each for each in facts.profile[:_MAX_PROFILE] if each.isascii() and each.isprintable())
    mig = MigInstance(
        parent=gpu.uuid,
        profile=named.strip(),
        gpu_instance=facts.gpu_instance,
        compute_instance=facts.compute_instance,
        multiprocessors=max(0, facts.multiprocessors),
        copy_engines=max(0, facts.copy_engines),
        decoders=max(0, facts.decoders),
        encoders=max(0, facts.encoders),
        jpeg_engines=max(0, facts.jpeg_engines),
        placement=before.placement if facts.gpu_start is None and before is not None else facts.gpu_start,
        compute_placement=(
            before.compute_placement
            if facts.compute_start is None and before is not None
            else facts.compute_start
        ),
    )
    return _part(gpu, GpuUuid(facts.uuid), mig, max(0, facts.memory_bytes))


def _part(gpu: Gpu, uuid: GpuUuid, mig: MigInstance, memory_bytes: int) -> Gpu:
    """An instance has all facts of its GPU except the minor number: its device node is that of the GPU."""
    return replace(
        gpu,
        uuid=uuid,
        kind=DeviceKind.MIG,
        mig=mig,
        mig_enabled=False,
        expected_links=0,
        memory_bytes=memory_bytes,
        minor=None,
    )


def _ids(instance: Gpu) -> tuple[int, int] | None:
    return None if instance.mig is None else (instance.mig.gpu_instance, instance.mig.compute_instance)
