"""The lines between the agent and its NVML worker: one JSON object a line, requests down, answers and events up.

The parent has one request in flight at a time, so it always knows which GPU a silent worker is stuck on.
"""

from typing import Literal

import msgspec

from gpuvitals.signals.nvml_worker.protocol import (
    AttentionEvent,
    CheckupValues,
    DriverFacts,
    GpuFacts,
    GpuValues,
    XidEvent,
)

MAX_LINE = 1 << 16

Call = Literal["open", "identify", "read", "check", "probe", "watch", "hear"]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. `attach` belongs to open, `index` to identify, `uuid` and `bus_id` to the others but hear."""

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
    values: CheckupValues


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The answer to probe, watch and hear."""

    id: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """Any call's other answer. `code` is the library's number."""

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
    """The request of one line. Raises msgspec.DecodeError (a ValueError) with what is wrong."""
    return _requests.decode(line)


def message_from(line: bytes) -> Message:
    """The message of one line. Raises msgspec.DecodeError (a ValueError) with what is wrong."""
    return _messages.decode(line)
