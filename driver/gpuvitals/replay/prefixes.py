"""Prefixes that tools add to log lines: grep, kubectl, container runtimes, syslog transports. Pure.

/var/log/kern.log-12-Nov 24 10:00:00 ...                   grep -rn, also with -A and -B
[pod/tail-x/tail] 2026-11-24T10:00:00.1Z ...               kubectl logs --prefix --timestamps
2026-11-24T10:00:00.123456789Z stdout F ...                container runtimes (CRI)
<4>1 2026-11-24T10:00:00Z node-7 kernel - - - NVRM: ...    RFC 5424
10.5.0.2: kern: warning: [2026-11-24T10:00:00.1Z]: NVRM:   talosctl dmesg
"""

import re
from dataclasses import dataclass

COLOUR = re.compile(rb"\x1b\[[0-9;:?]*[A-Za-z]")
"""Terminal escape sequences, as `dmesg --color` and `grep --color` print them."""
OTHER_FACILITY = 1
"""Any facility other than the kernel."""

_RUNTIME = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2}) (?:stdout|stderr) [FP] "
)
_POD = re.compile(rb"\[pod/[^\s\]]{1,400}\] ")
_COMPOSE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,100} +\| ")
_RAW = re.compile(rb"(?:[0-9]{1,5} )?<(?P<priority>[0-9]{1,4})>")
_LEVELS = rb"(?:emerg|alert|crit|err(?:or)?|warn(?:ing)?|notice|info|debug)"
_DECODED = re.compile(rb"(?P<facility>[a-z]+[0-7]?) *: *" + _LEVELS + rb" *: ?")
_NODE = re.compile(
    rb"(?P<node>[^\s:]{1,255}|[0-9a-f:]{2,39}): +(?=[a-z]+[0-7]? *: *" + _LEVELS + rb" *: ?\[)"
)
_SYSLOG_5424 = re.compile(
    rb"1 (?P<stamp>[^ ]{1,64}) (?P<host>[^ ]{1,255}) (?P<app>[^ ]{1,48}) [^ ]{1,128} [^ ]{1,32} "
    rb"(?:-|(?:\[(?:[^\]\\]|\\.){0,2000}\]){1,20})(?: (?:\xef\xbb\xbf)?|\Z)"
)
_START = (
    rb"(?=\[ *[0-9]+\.[0-9]|\[[^\]\n]{8,60}[0-9]{4}\] |<[0-9]{1,4}>|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]"
    rb"|[0-9]{9,11}\.[0-9]{1,9} |[^\s:\[\]<>]{1,16} {1,2}[0-9]{1,2} [0-9]{2}:[0-9]{2}:[0-9]{2}"
    rb"|[^\s:]{1,16} [0-9]{4}-[0-9]{2}-[0-9]{2} |[0-9]{1,4},[0-9]{1,20},[0-9]{1,20},[-c+][,;]"
    rb'|kernel(?:\[[0-9]+\])?: |kern *:[a-z]|NVRM: |nvidia-nvswitch[0-9]|Linux version |\{")'
)
_GREP = re.compile(rb"(?:[^\s:]{1,300}?[:-](?:[0-9]{1,10}[:-])?|[0-9]{1,10}[:-]| *[0-9]{1,10}\t)" + _START)
"""File names and line numbers, as grep and `cat -n` print them."""


@dataclass(frozen=True, slots=True)
class LinePrefix:
    """The parsed prefixes of a line. The message begins at offset `end`. `facility` is None if unknown.

    `is_proof`: the facility comes from the kernel log itself, so it can't be forged. `stamp`, `app` and `host` are the
    date, the program and the node of a syslog header.
    """

    end: int
    facility: int | None = None
    is_proof: bool = False
    stamp: bytes | None = None
    app: bytes | None = None
    host: bytes | None = None


def line_prefix(line: bytes, *, has_grep_prefix: bool) -> LinePrefix:
    """The prefixes of a line. `has_grep_prefix`: lines of its file have grep's prefixes."""
    at = 0
    if has_grep_prefix and (match := _GREP.match(line)):
        at = match.end()
    for pattern in (_POD, _COMPOSE, _RUNTIME):
        if match := pattern.match(line, at):
            at = match.end()
    if match := _RAW.match(line, at):
        facility = int(match["priority"]) >> 3
        rest = match.end()
        # Records of the kernel ring buffer begin with `<4>[`; any other form came through a syslog socket.
        return _syslog_5424(line, rest, facility) or LinePrefix(rest, facility, line.startswith(b"[", rest))
    node = None
    if match := _NODE.match(line, at):
        at, node = match.end(), match["node"]
    if match := _DECODED.match(line, at):
        facility = 0 if match["facility"] == b"kern" else OTHER_FACILITY
        return LinePrefix(match.end(), facility, is_proof=True, host=node)
    return _syslog_5424(line, at, None) or LinePrefix(at)


def has_facility(line: bytes) -> bool:
    """Whether the line begins with a facility in a format of dmesg."""
    return _RAW.match(line) is not None or _DECODED.match(line) is not None


def has_grep_prefix(line: bytes) -> bool:
    """Whether the line begins with grep's prefix of file name or line number."""
    return _GREP.match(line) is not None


def _syslog_5424(line: bytes, at: int, facility: int | None) -> LinePrefix | None:
    match = _SYSLOG_5424.match(line, at)
    if match is None:
        return None
    return LinePrefix(match.end(), facility, stamp=match["stamp"], app=match["app"], host=match["host"])
