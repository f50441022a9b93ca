"""Texts that name the next step for a pod's owner whose device is out of service. Pure.

A prepared claim keeps its device, and a refused claim its allocation: neither recovers without a person.
"""

NEXT_STEP = (
    "next: delete the pods of this claim and, unless it was made from a template, the claim; created again, "
    "they get another device"
)
CORRECT = (
    "next: correct the parameters in the claim or its template, or in the class, then delete the pods of this claim "
    "and the claim, and create them again"
)
NEW_POD = "next: delete the pod and create it again, with a claim that exists"
_ASKS = "delete the pod"
_MAX_BYTES = 830
"""The API server accepts 1024 bytes in an event's note: the message is cut so that the step fits."""


def with_next_step(message: str, step: str = NEXT_STEP) -> str:
    """The message with the step appended, unless the message names it already."""
    if _ASKS in message:
        return message
    return f"{message.encode(errors='replace')[:_MAX_BYTES].decode(errors='ignore')}; {step}"
