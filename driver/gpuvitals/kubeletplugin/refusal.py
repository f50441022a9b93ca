"""Why a claim was not prepared: a code for metrics and events, a message for people. Pure."""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.inventory.next_step import with_next_step


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


_LASTING = frozenset(
    {
        RefusalCode.WRONG_POOL,
        RefusalCode.UNKNOWN_DEVICE,
        RefusalCode.DUPLICATE_DEVICE,
        RefusalCode.DEVICE_REPLACED,
        RefusalCode.DEVICE_UNHEALTHY,
    }
)
"""The claim keeps an allocation that this node can't serve: only a new allocation helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One claim's failure: a result, not an exception of the call. `message` is lower case."""

    code: RefusalCode
    message: str

    def __str__(self) -> str:
        return f"{self.code.value}: {self.text()}"

    def text(self, before: str = "") -> str:
        """The message behind other words, and the next step of the pod's owner where asking again can't help."""
        whole = f"{before}{self.message}"
        return with_next_step(whole) if self.code in _LASTING else whole


class RefusedError(Exception):
    """Carries a Refusal out of a nested step to the one place that answers for the claim."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message)


class TransientError(RefusedError):
    """A Refusal whose cause can pass by itself: the call waits and tries again while it has time."""
