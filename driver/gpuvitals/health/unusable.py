"""Verdicts on devices that can't be used in the form in which they are held or offered, whatever the GPU's health.

They blame no hardware: another device is in the slot, the GPU was divided otherwise, or a file of the driver is missing.
"""

from dataclasses import replace

from gpuvitals.model.files import Lack
from gpuvitals.model.health import Confidence, HealthClass, HealthState, Phase, Verdict
from gpuvitals.model.ids import Reason

INSTANCE_GONE = Reason("MigInstanceGone")
GPU_REPLACED = Reason("GpuReplaced")
MIG_ENABLED = Reason("MigEnabled")
LIBRARIES_MISSING = Reason("DriverLibrariesMissing")
NODES_MISSING = Reason("DeviceNodesMissing")
PLATFORM_UNSUPPORTED = Reason("PlatformUnsupported")
FILE_REASONS = (LIBRARIES_MISSING, NODES_MISSING, PLATFORM_UNSUPPORTED)
"""Why no claim for a device can be prepared, whatever the GPU's health: the codes that the kubelet plugin refuses with."""


def instance_gone(judged: Verdict) -> Verdict:
    """The verdict on a MIG instance that was destroyed while a claim holds it."""
    return _unusable(
        judged,
        INSTANCE_GONE,
        "the MIG instance was destroyed while a claim holds it; out of service until it is made again "
        "or the claim is released",
    )


def gpu_replaced(judged: Verdict) -> Verdict:
    """The verdict on a GPU, or an instance of one, whose slot went to another GPU while a claim holds it."""
    return _unusable(
        judged,
        GPU_REPLACED,
        "another GPU was enumerated in its slot while a claim holds it; delete the pod and its claim, a new claim "
        "gets the GPU that is there now",
    )


def files_missing(judged: Verdict, lack: Lack) -> Verdict:
    """The verdict that a device is published with while a file of the driver is missing. It blames no hardware."""
    return _unusable(judged, lack.reason, lack.message)


def mig_enabled(judged: Verdict) -> Verdict:
    """The verdict for a claim that holds a GPU whole, once MIG was enabled on it: CUDA sees its instances only.

    Source: NVIDIA MIG User Guide, "Enable MIG Mode".
    """
    return _unusable(
        judged,
        MIG_ENABLED,
        "MIG was enabled while a claim holds the whole GPU; delete the pod and its claim, or disable MIG",
    )


def _unusable(judged: Verdict, reason: Reason, message: str) -> Verdict:
    """The verdict is definitive, since it was read. It has no confidence, since no hardware is at fault."""
    return replace(
        judged,
        state=HealthState.UNHEALTHY,
        phase=Phase.STEADY,
        score=0,
        health_class=HealthClass.FAILED,
        reason=reason,
        message=message,
        definitive=True,
        confidence=Confidence.NONE,
    )
