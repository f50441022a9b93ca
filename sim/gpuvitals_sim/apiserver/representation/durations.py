"""Ages as kubectl shows them: `45s`, `5m30s`, `3h`, `2d4h`.

Place in the chain: table cells. Source: kubernetes/apimachinery pkg/util/duration (HumanDuration).
"""

from datetime import UTC, datetime

from gpuvitals_sim.apiserver.json_types import parse_time

UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 31_536_000


def age(moment: object) -> str:
    """The time since an API time, or `<unknown>` if there is none."""
    if not isinstance(moment, str) or not moment:
        return UNKNOWN
    return human(int((datetime.now(UTC) - parse_time(moment)).total_seconds()))


def human(seconds: int) -> str:
    """A duration with two significant parts while it is short, one when it is long."""
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, (_MINUTE, "m"), (1, "s"))
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, (_HOUR, "h"), (_MINUTE, "m"))
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, (_DAY, "d"), (_HOUR, "h"))
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two(seconds, (_YEAR, "y"), (_DAY, "d"))
    return f"{seconds // _YEAR}y"


def _two(seconds: int, big: tuple[int, str], small: tuple[int, str]) -> str:
    first, rest = divmod(seconds, big[0])
    second = rest // small[0]
    return f"{first}{big[1]}" + (f"{second}{small[1]}" if second else "")
