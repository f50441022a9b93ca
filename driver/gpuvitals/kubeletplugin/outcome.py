"""Why a claim was not prepared: a code for metrics and events, a message for people. Pure."""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.inventory.next_step import CORRECT, NEW_POD, NEXT_STEP, with_next_step


class RefusalCode(Enum):
    """The closed list. The value is the event's reason and the metric's code."""

    INVALID_ARGUMENT = "InvalidArgument"
    STARTING = "Starting"
    STOPPING = "Stopping"
    SUPERSEDED = "Superseded"
    BUSY = "Busy"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLAIM_UNREADABLE = "ClaimUnreadable"
    CLAIM_REPLACED = "ClaimReplaced"
    NOT_ALLOCATED = "NotAllocated"
    TOO_MANY_DEVICES = "TooManyDevices"
    WRONG_POOL = "WrongPool"
    UNKNOWN_DEVICE = "UnknownDevice"
    DUPLICATE_DEVICE = "DuplicateDevice"
    DEVICE_IN_USE = "DeviceInUse"
    DEVICE_UNHEALTHY = "DeviceUnhealthy"
    DEVICE_REPLACED = "DeviceReplaced"
    DEVICE_FENCED = "DeviceFenced"
    INVALID_CONFIG = "InvalidConfig"
    LIBRARIES_MISSING = "DriverLibrariesMissing"
    NODES_MISSING = "DeviceNodesMissing"
    PLATFORM_UNSUPPORTED = "PlatformUnsupported"
    STORAGE_FAILED = "StorageFailed"
    CHECKPOINT_NEWER = "CheckpointNewer"
    INTERNAL = "InternalError"


_STEPS = {
    RefusalCode.WRONG_POOL: NEXT_STEP,
    RefusalCode.UNKNOWN_DEVICE: NEXT_STEP,
    RefusalCode.DUPLICATE_DEVICE: NEXT_STEP,
    RefusalCode.DEVICE_REPLACED: NEXT_STEP,
    RefusalCode.DEVICE_UNHEALTHY: NEXT_STEP,
    RefusalCode.PLATFORM_UNSUPPORTED: NEXT_STEP,
    RefusalCode.INVALID_CONFIG: CORRECT,
    RefusalCode.CLAIM_NOT_FOUND: NEW_POD,
    RefusalCode.CLAIM_REPLACED: NEW_POD,
}
"""The refusals that stay the same however often the kubelet asks again, and what helps instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One claim's failure: a result, not an exception of the call. `message` is lower case."""

    code: RefusalCode
    message: str

    def __str__(self) -> str:
        return f"{self.code.value}: {self.text()}"

    def text(self, before: str = "") -> str:
        """The message after `before`, and the next step for the pod's owner where a retry can't help."""
        whole = f"{before}{self.message}"
        step = _STEPS.get(self.code)
        return whole if step is None else with_next_step(whole, step)


class RefusedError(Exception):
    """Carries a Refusal out of a nested step to the one place that answers for the claim."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message)


class TransientError(RefusedError):
    """A Refusal whose cause can pass by itself: the call waits and tries again while it has time."""
