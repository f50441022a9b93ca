"""Classifies the lines of NVIDIA's drivers in the kernel log. Pure.

A process may have any name, and its name appears in kernel lines: in those of other drivers, and in XID lines after
`name=`. Hence every pattern matches a whole header at the start of the text, and every body is matched at the end of
the line. A process name has at most 15 bytes, so it can't hold a header or a body.

Source: NVIDIA/open-gpu-kernel-modules 595.45.04, src/nvidia/src/kernel/gpu/rc/kernel_rc.c and kernel-open/nvidia.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum

from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.pci import normalize_bus_id
from gpuvitals.signals.kmsg.record import DRIVER_PREFIXES, KmsgRecord

MAX_PID = 4_194_304
"""Source: Linux include/linux/threads.h, PID_MAX_LIMIT."""
MAX_NAME = 64
PENDING_RECORDS = 8
"""The most records between the first and the last of the three driver-load lines."""


class LineKind(Enum):
    """The kind of a line. SPOOFED: the text of a driver's line, but not the facility of the kernel."""

    XID = "xid"
    SXID = "sxid"
    OFF_BUS = "off_bus"
    INIT_FAILED = "init_failed"
    RECOVERY_ACTION = "recovery_action"
    IDENTITY = "identity"
    NONE = "none"
    SPOOFED = "spoofed"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvlink5Body:
    """The body of XIDs 144..150. `words` are in printed order; the first two are interrupt info and error status."""

    unit: str
    cross_contain: int
    injected: bool
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One classified line. None means that the value is missing or not trusted.

    `is_detail`: an SXid line that adds detail to the line before it and reports no error of its own.
    """

    kind: LineKind
    bus_id: PciBusId | None = None
    code: int | None = None
    pid: int | None = None
    process: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    link: int | None = None
    fatal: bool | None = None
    caused_by: int | None = None
    would_be: LineKind | None = None
    uuid: GpuUuid | None = None
    serial: str | None = None
    action_from: int | None = None
    action_to: int | None = None
    switch: int | None = None
    words: tuple[int, ...] = ()
    nvlink5: Nvlink5Body | None = None
    is_detail: bool = False

    @property
    def is_understood(self) -> bool:
        """Whether the line was parsed completely: False for a damaged line, and for an XID 154 without its action."""
        return self.kind is not LineKind.MALFORMED and not (
            self.kind is LineKind.XID and self.code == _RECOVERY_ACTION
        )


_RECOVERY_ACTION = 154
MALFORMED = Line(kind=LineKind.MALFORMED)
_NONE = Line(kind=LineKind.NONE)

_BDF = r"(?P<bdf>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[01][0-9A-Fa-f])(?:\.(?P<function>[0-7]))?"
_XID_PREFIX = re.compile(r"NVRM:\s*Xid")
_XID = re.compile(
    rf"NVRM: Xid \((?:PCI:)?{_BDF}(?: GPU-I:(?P<gi>[0-9]{{1,5}})(?: GPU-CI:(?P<ci>[0-9]{{1,5}}))?)?\): "
    r"(?P<code>[0-9]{1,10})(?:, ?(?P<rest>.*))?\Z",
    re.ASCII,
)
_SXID = re.compile(
    r"nvidia-nvswitch(?P<switch>[0-9]{1,3}): SXid \(PCI:"
    r"(?P<bdf>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[01][0-9A-Fa-f])\.(?P<function>[0-7])\): "
    r"(?P<code>[0-9]{1,5}), (?P<rest>.*)\Z",
    re.ASCII,
)
_SXID_PREFIX = re.compile(r"nvidia-nvswitch[^:]*: SXid")
_SXID_BODY = re.compile(r"(?P<word>Fatal|Non-fatal|Correctable), (?:Link (?P<link>-?[0-9]{1,9})\b)?")
_OFF_BUS = re.compile(rf"NVRM: GPU (?:at )?(?:PCI:)?{_BDF}(?::? GPU)? has fallen off the bus")
"""Older drivers write `GPU at 0000:3b:00.0 has`."""
_INIT_FAILED = re.compile(
    rf"NVRM: (?:GPU (?:at )?(?:PCI:)?{_BDF}:? )?(?:RmInitAdapter failed!|rm_init_adapter(?:\([0-9]{{1,3}}\))? failed)"
)
"""Source: NVIDIA/open-gpu-kernel-modules, src/nvidia/arch/nvalloc/unix/src/osinit.c and kernel-open/nvidia/nv.c."""
_PROBE_FAILED = re.compile(rf"nvidia(?:: probe of)? {_BDF}(?:: probe with driver nvidia)? failed with error")
"""Source: Linux drivers/base/dd.c, call_driver_probe; Linux 6.6 and later use the second wording."""
_SXID_DETAIL = re.compile(r"(?:Severity [0-9]|Data \{)")
"""Source: NVIDIA/open-gpu-kernel-modules, src/common/nvswitch/kernel/error_nvswitch.c."""
_LOAD_FIRST = re.compile(rf"NVRM: The NVIDIA GPU {_BDF}(?:\Z|[ \\])")
_UNSUPPORTED = "in this system is not supported"
"""Source: NVIDIA/open-gpu-kernel-modules, src/nvidia/arch/nvalloc/unix/src/osapi.c."""
_LOAD_LAST = "fallen off the bus and is not responding to commands"
_IDENTITY_PREFIX = "NVRM: GPU at PCI:"
_IDENTITY = re.compile(
    rf"NVRM: GPU at PCI:{_BDF}: (?P<uuid>GPU-[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}})\Z"
)
_BOARD_SERIAL = re.compile(r"NVRM: GPU Board Serial Number: (?P<serial>[0-9A-Za-z]{1,32})\Z")
_LOST_SERIAL = re.compile(rf"NVRM: GPU {_BDF}: GPU serial number is (?P<serial>[0-9A-Za-z]{{1,32}})\.?\Z")
_ACTION = re.compile(
    r"(?:\A|, )GPU recovery action changed from (?:0x)?([0-9a-fA-F]{1,8})(?: \([^)]*\))?"
    r" to (?:0x)?([0-9a-fA-F]{1,8})(?: \([^)]*\)?)?\.?\Z"
)
"""The names are for display. A line that is cut off within the last name still holds both numbers."""
_NVLINK5 = re.compile(
    r"(?:\A|, )(?P<unit>[A-Z][A-Z0-9_]*) (?P<fatal>Fatal|Nonfatal) XC(?P<cross>[01]) i(?P<injected>[0-9]) "
    r"Link (?P<link>-?[0-9]{1,9})(?: \((?P<words>0x[0-9a-fA-F]{1,8}(?: 0x[0-9a-fA-F]{1,8})*)\))?\Z"
)
_NVLINK4 = re.compile(
    r"(?:\A|, )NVLink: (?P<fatal>fatal )?error detected on link (?P<link>-?[0-9]{1,9})"
    r" ?\((?P<words>0x[0-9a-fA-F]{1,8}(?:, ?0x[0-9a-fA-F]{1,8}){6})\)\Z"
)
_CAUSE = re.compile(r" caused by previous Xid ([0-9]{1,5})\Z")


class XidClassifier:
    """Classifies records in order. It remembers only the driver-load message, which may span three records."""

    def __init__(self) -> None:
        self._pending: PciBusId | None = None
        self._pending_left = 0

    def classify(self, record: KmsgRecord) -> Line:
        """The line of one record. A record of another facility is at most SPOOFED and does not change the classifier."""
        text = record.text
        if not text.startswith(DRIVER_PREFIXES):
            self._age()
            return _NONE
        line = _classified(text)
        if record.facility != 0:
            kind = LineKind.OFF_BUS if _is_load_last(text) else line.kind
            self._age()
            return _NONE if kind is LineKind.NONE else Line(kind=LineKind.SPOOFED, would_be=kind)
        first = _LOAD_FIRST.match(text)
        if _UNSUPPORTED in text:
            # Same first line, but the driver does not support this GPU: nothing fell off the bus.
            self._pending = None
            return line
        if first is not None and line.kind is LineKind.NONE:
            self._pending, self._pending_left = _bus_id(first), PENDING_RECORDS
            return line
        if _is_load_last(text):
            bus_id, self._pending = self._pending, None
            return Line(kind=LineKind.OFF_BUS, bus_id=bus_id)
        self._age()
        return line

    @property
    def waiting(self) -> bool:
        """Whether the driver-load message has begun, so that the following records have to be classified too."""
        return self._pending is not None

    def _age(self) -> None:
        self._pending_left -= 1
        if self._pending_left <= 0:
            self._pending = None


def _classified(text: str) -> Line:
    if _XID_PREFIX.match(text):
        return _xid(text)
    if _SXID_PREFIX.match(text):
        return _sxid(text)
    match = _OFF_BUS.match(text)
    if match is not None:
        return Line(kind=LineKind.OFF_BUS, bus_id=_bus_id(match))
    match = _LOAD_FIRST.match(text)
    if match is not None:
        return Line(kind=LineKind.OFF_BUS, bus_id=_bus_id(match)) if _LOAD_LAST in text else _NONE
    match = _INIT_FAILED.match(text)
    if match is not None:
        return Line(kind=LineKind.INIT_FAILED, bus_id=None if match["bdf"] is None else _bus_id(match))
    match = _PROBE_FAILED.match(text)
    if match is not None:
        return Line(kind=LineKind.INIT_FAILED, bus_id=_bus_id(match))
    if text.startswith("NVRM: GPU ") and "fallen off the bus" in text:
        return MALFORMED
    return _identity(text)


def _is_load_last(text: str) -> bool:
    return text.startswith(f"NVRM: {_LOAD_LAST}")


def _identity(text: str) -> Line:
    if text.startswith(_IDENTITY_PREFIX):
        match = _IDENTITY.match(text)
        if match is None:
            return MALFORMED
        return Line(kind=LineKind.IDENTITY, bus_id=_bus_id(match), uuid=GpuUuid(match["uuid"]))
    match = _BOARD_SERIAL.match(text)
    if match is not None:
        return Line(kind=LineKind.IDENTITY, serial=match["serial"])
    match = _LOST_SERIAL.match(text)
    if match is not None:
        return Line(kind=LineKind.IDENTITY, bus_id=_bus_id(match), serial=match["serial"])
    return _NONE


def _xid(text: str) -> Line:
    match = _XID.match(text)
    if match is None:
        return MALFORMED
    code = int(match["code"])
    instances = [None if match[name] is None else int(match[name]) for name in ("gi", "ci")]
    if not 1 <= code <= 65_535 or any(number is not None and number > 65_534 for number in instances):
        return MALFORMED
    rest = match["rest"] or ""
    pid, process = _caller(rest)
    line = Line(
        kind=LineKind.XID,
        bus_id=_bus_id(match),
        code=code,
        pid=pid,
        process=process,
        gpu_instance=instances[0],
        compute_instance=instances[1],
    )
    return _with_body(line, code, rest)


def _caller(rest: str) -> tuple[int | None, str | None]:
    """The PID and the process name before a message, for display only; None for malformed ones."""
    if not rest.startswith("pid="):
        return None, None
    digits, _, behind = rest.removeprefix("pid=").partition(", ")
    pid = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 7 else None
    if pid is not None and pid > MAX_PID:
        pid = None
    if not behind.startswith("name="):
        return pid, None
    name = behind.removeprefix("name=").partition(", ")[0]
    return pid, None if name in ("", "<unknown>") else name[:MAX_NAME]


def _with_body(line: Line, code: int, rest: str) -> Line:
    if code == _RECOVERY_ACTION:
        action = _ACTION.search(rest)
        if action is not None:
            numbers = [int(group, 16) for group in action.groups()]
            return replace(line, kind=LineKind.RECOVERY_ACTION, action_from=numbers[0], action_to=numbers[1])
    elif code == 45:
        cause = _CAUSE.search(rest)
        if cause is not None:
            return replace(line, caused_by=int(cause[1]))
    elif code == 74:
        return _with_nvlink4(line, rest)
    elif 144 <= code <= 150:
        return _with_nvlink5(line, rest)
    return line


def _with_nvlink4(line: Line, rest: str) -> Line:
    body = _NVLINK4.search(rest)
    if body is None:
        return line
    words = tuple(int(word, 16) for word in body["words"].replace(" ", "").split(","))
    return replace(line, link=_link(body["link"]), fatal=True if body["fatal"] else None, words=words)


def _with_nvlink5(line: Line, rest: str) -> Line:
    body = _NVLINK5.search(rest)
    if body is None:
        return line
    words = tuple(int(word, 16) for word in (body["words"] or "").split())
    detail = Nvlink5Body(
        unit=body["unit"],
        cross_contain=int(body["cross"]),
        injected=body["injected"] != "0",
        words=words,
    )
    return replace(line, link=_link(body["link"]), fatal=body["fatal"] == "Fatal", nvlink5=detail)


def _sxid(text: str) -> Line:
    match = _SXID.match(text)
    if match is None:
        return MALFORMED
    body = _SXID_BODY.match(match["rest"])
    return Line(
        kind=LineKind.SXID,
        bus_id=_bus_id(match),
        code=int(match["code"]),
        switch=int(match["switch"]),
        link=None if body is None or body["link"] is None else _link(body["link"]),
        fatal=None if body is None else body["word"] == "Fatal",
        is_detail=_SXID_DETAIL.match(match["rest"]) is not None,
    )


def _link(text: str) -> int | None:
    number = int(text)
    return number if 0 <= number <= 63 else None


def _bus_id(match: re.Match[str]) -> PciBusId:
    bus_id = normalize_bus_id(f"{match['bdf']}.{match['function'] or 0}")
    assert bus_id is not None  # the patterns of this module match bus IDs only
    return bus_id
