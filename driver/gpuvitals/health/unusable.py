"""Verdicts for devices that can't be used although their hardware is healthy.

Another GPU is in the slot, the MIG layout changed, or a file of the driver is missing.
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
"""Reasons that prevent Prepare on a healthy GPU. The kubelet plugin rejects claims with the same codes."""


def instance_gone(judged: Verdict) -> Verdict:
    """The verdict for a MIG instance that was destroyed while a claim holds it."""
    return _unusable(
        judged,
        INSTANCE_GONE,
        "the MIG instance was destroyed while a claim holds it; out of service until it is created again "
        "or the claim is released",
    )


def gpu_replaced(judged: Verdict) -> Verdict:
    """The verdict for a held GPU or MIG instance whose slot has another GPU now."""
    return _unusable(
        judged,
        GPU_REPLACED,
        "another GPU was enumerated in its slot while a claim holds it; delete the pod and its claim, a new claim "
        "gets the GPU that is there now",
    )


def files_missing(judged: Verdict, lack: Lack) -> Verdict:
    """The verdict of a device while a file of the driver is missing."""
    return _unusable(judged, lack.reason, lack.message)


def mig_enabled(judged: Verdict) -> Verdict:
    """The verdict for a claim on a whole GPU after MIG was enabled: CUDA then sees MIG instances only.

    Source: NVIDIA MIG User Guide, "Enable MIG Mode".
    """
    return _unusable(
        judged,
        MIG_ENABLED,
        "MIG was enabled while a claim holds the whole GPU; delete the pod and its claim, or disable MIG",
    )


def _unusable(judged: Verdict, reason: Reason, message: str) -> Verdict:
    """A definitive verdict, since the cause was read. Without confidence, since no hardware is at fault."""
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
