"""The wire format between the agent and its NVML worker: one JSON object per line.

The agent has one request in flight at a time, so it can attribute a hang to one GPU.
"""

from typing import Literal

import msgspec

from gpuvitals.model.signal import Checkup
from gpuvitals.signals.nvml_worker.protocol import (
    AttentionEvent,
    DriverFacts,
    GpuFacts,
    GpuValues,
    XidEvent,
)

MAX_LINE = 1 << 16

Call = Literal["open", "identify", "read", "check", "probe", "watch", "events"]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. `attach` is an argument of open, `index` of identify, `uuid` and `bus_id` of all others except events."""

    id: int
    call: Call
    attach: bool = True
    index: int = 0
    uuid: str = ""
    bus_id: str = ""


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """The answer to open."""

    id: int
    driver: DriverFacts


class Identified(msgspec.Struct, frozen=True, kw_only=True, tag="identified"):
    """The answer to identify."""

    id: int
    gpu: GpuFacts


class Values(msgspec.Struct, frozen=True, kw_only=True, tag="values"):
    """The answer to read."""

    id: int
    values: GpuValues


class Checked(msgspec.Struct, frozen=True, kw_only=True, tag="checked"):
    """The answer to check."""

    id: int
    checkup: Checkup


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The answer to probe, watch and events."""

    id: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The answer to a failed call. `code` is the number of nvmlReturn_t."""

    id: int
    code: int
    message: str


Answer = Opened | Identified | Values | Checked | Done | Failed
Message = Opened | Identified | Values | Checked | Done | Failed | XidEvent | AttentionEvent

_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)
_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def line_from(item: Request | Message) -> bytes:
    """One line with its newline; JSON escapes any newline inside."""
    return _encoder.encode(item) + b"\n"


def request_from(line: bytes) -> Request:
    """The request of one line. Raises msgspec.DecodeError, a ValueError."""
    return _requests.decode(line)


def message_from(line: bytes) -> Message:
    """The message of one line. Raises msgspec.DecodeError, a ValueError."""
    return _messages.decode(line)
