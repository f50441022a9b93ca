"""Outcomes of claim operations: the refusal of one claim, with its code and message, and the outcome for telemetry. Pure."""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.next_step import CORRECT, NEW_POD, NEXT_STEP, with_next_step


class Operation(Enum):
    """An operation that the kubelet requests for a claim. The value labels metrics and log lines."""

    PREPARE = "prepare"
    UNPREPARE = "unprepare"


class RefusalCode(Enum):
    """All refusal codes. The value is the event's reason and the code label of the metric."""

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
"""The next step for each refusal that the kubelet's retries can't clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The failure of one claim, as a result: the call itself succeeds. `message` is lower case."""

    code: RefusalCode
    message: str

    def __str__(self) -> str:
        return f"{self.code.value}: {self.text()}"

    def text(self, before: str = "") -> str:
        """The message, prefixed with `before`. Adds the pod owner's next step if retries can't clear the refusal."""
        message = f"{before}{self.message}"
        step = _STEPS.get(self.code)
        return message if step is None else with_next_step(message, step)


class RefusedError(Exception):
    """Raised by a step of a claim operation; the operation returns `refusal` as the claim's result."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message)


class TransientError(RefusedError):
    """A refusal that may clear by itself: the call waits and retries until its time is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOutcome:
    """The result of one claim in a finished call. `refusal` is None for success; `seconds` is the claim's duration."""

    operation: Operation
    ref: ClaimRef
    refusal: Refusal | None
    seconds: float
