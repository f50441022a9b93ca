"""MIG of scripted GPUs: their instances, and the driver's capability files and nodes of each instance.

Source of profiles, of their GPU instance IDs, and of the capability files: NVIDIA MIG User Guide, "A100 MIG Profiles" and
"Device Nodes and Capabilities". The minors follow a rule of our own.
"""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpuvitals.signals.nvml_worker.protocol import InstanceFacts, MigFacts
from gpuvitals_sim.hardware.state_file import GpuScript, StateError

COMPUTE_SLICES = 7

_NAMESPACE = uuid.UUID("9f7c3c1e-8d3b-4d51-9c59-0d6c1f0c2b7d")
_FIRST_MINOR = 3
_MINORS_PER_INSTANCE = 9
_MINORS_PER_GPU = 15 * _MINORS_PER_INSTANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """One size of instance. `ids` are its possible GPU instance IDs, one per placement.

    It occupies `memory_slices` of the eight from one of `starts` on, in the driver's order of preference.
    """

    slices: int
    memory_mib: int
    multiprocessors: int
    copy_engines: int
    decoders: int
    jpeg_engines: int
    ids: range
    memory_slices: int
    starts: tuple[int, ...]


MIG_PROFILES = {
    "1g.10gb": MigProfile(
        slices=1,
        memory_mib=9728,
        multiprocessors=14,
        copy_engines=1,
        decoders=0,
        jpeg_engines=0,
        ids=range(7, 14),
        memory_slices=1,
        starts=(0, 1, 2, 3, 4, 5, 6),
    ),
    "2g.20gb": MigProfile(
        slices=2,
        memory_mib=19968,
        multiprocessors=28,
        copy_engines=2,
        decoders=1,
        jpeg_engines=0,
        ids=range(3, 6),
        memory_slices=2,
        starts=(0, 2, 4),
    ),
    "3g.40gb": MigProfile(
        slices=3,
        memory_mib=40192,
        multiprocessors=42,
        copy_engines=3,
        decoders=2,
        jpeg_engines=0,
        ids=range(1, 3),
        memory_slices=4,
        starts=(4, 0),
    ),
    "7g.80gb": MigProfile(
        slices=7,
        memory_mib=81152,
        multiprocessors=98,
        copy_engines=7,
        decoders=5,
        jpeg_engines=1,
        ids=range(1),
        memory_slices=8,
        starts=(0,),
    ),
}
"""The profiles of an A100 with 80 GB, by NVIDIA's names."""


def with_instance(gpu: GpuScript, profile: str) -> GpuScript:
    """The GPU in MIG mode with one more instance. Raises StateError if there is no such profile, or no room."""
    known = MIG_PROFILES.get(profile)
    if known is None:
        raise StateError(f"profile {profile!r} does not exist; there are {', '.join(sorted(MIG_PROFILES))}")
    instances = gpu.mig.instances
    used = sum(MIG_PROFILES[each.profile].slices for each in instances)
    free = [number for number in known.ids if number not in {each.gpu_instance for each in instances}]
    start = _free_start(known, instances)
    if not free or start is None or used + known.slices > COMPUTE_SLICES:
        raise StateError(f"gpu {gpu.uuid}: no room for {profile}; {used} of {COMPUTE_SLICES} slices are used")
    made = InstanceFacts(
        uuid=f"MIG-{uuid.uuid5(_NAMESPACE, f'{gpu.uuid}/{free[0]}/0')}",
        gpu_instance=free[0],
        compute_instance=0,
        profile=profile,
        memory_bytes=known.memory_mib << 20,
        multiprocessors=known.multiprocessors,
        copy_engines=known.copy_engines,
        decoders=known.decoders,
        jpeg_engines=known.jpeg_engines,
        gpu_start=start,
    )
    return msgspec.structs.replace(gpu, mig=MigFacts(enabled=True, instances=(*instances, made)))


def _free_start(wanted: MigProfile, instances: tuple[InstanceFacts, ...]) -> int | None:
    taken = {
        (each.gpu_start or 0) + place
        for each in instances
        for place in range(MIG_PROFILES[each.profile].memory_slices)
    }
    return next(
        (start for start in wanted.starts if taken.isdisjoint(range(start, start + wanted.memory_slices))),
        None,
    )


def without_instance(gpu: GpuScript, gpu_instance: int) -> GpuScript:
    """The GPU without that instance. Raises StateError if it has none of that id."""
    left = tuple(each for each in gpu.mig.instances if each.gpu_instance != gpu_instance)
    if left == gpu.mig.instances:
        there = ", ".join(str(each.gpu_instance) for each in left) or "none"
        raise StateError(f"instance {gpu_instance} of gpu {gpu.uuid} does not exist; there are {there}")
    return msgspec.structs.replace(gpu, mig=MigFacts(enabled=True, instances=left))


class CapabilityFiles:
    """The capability files and nodes below a driver root: `proc/driver/nvidia/capabilities` and `dev/nvidia-caps`."""

    def __init__(self, root: Path) -> None:
        self._files = root / "proc" / "driver" / "nvidia" / "capabilities"
        self._nodes = root / "dev" / "nvidia-caps"

    def show(self, gpu: GpuScript) -> None:
        """Writes the capability files of the GPU's instances and removes others. Device nodes stay, as with the real driver."""
        folder = self._files / f"gpu{gpu.minor}" / "mig"
        wanted = {f"gi{each.gpu_instance}": each for each in gpu.mig.instances}
        for there in folder.iterdir() if folder.exists() else ():
            if there.name not in wanted:
                shutil.rmtree(there)
        for name, each in wanted.items():
            whole, part = capability_minors(gpu.minor, each.gpu_instance, each.compute_instance)
            self._access(folder / name, whole)
            self._access(folder / name / f"ci{each.compute_instance}", part)

    def _access(self, folder: Path, minor: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
        (folder / "access").write_text(text, encoding="ascii")
        self._nodes.mkdir(exist_ok=True)
        node = self._nodes / f"nvidia-cap{minor}"
        if not node.exists():
            node.touch()


def capability_minors(gpu_minor: int, gpu_instance: int, compute_instance: int = 0) -> tuple[int, int]:
    """The minors of an instance's two device nodes."""
    whole = _FIRST_MINOR + gpu_minor * _MINORS_PER_GPU + gpu_instance * _MINORS_PER_INSTANCE
    return whole, whole + 1 + compute_instance
