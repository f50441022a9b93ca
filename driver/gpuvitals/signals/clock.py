"""The one reader of the system's clocks."""

import time
from datetime import UTC, datetime
from pathlib import Path

from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import BootId

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Moments of this machine: CLOCK_BOOTTIME, which runs on in suspend and never jumps, and UTC for people."""

    def now(self) -> Moment:
        """The present Moment."""
        return Moment(at=time.clock_gettime(time.CLOCK_BOOTTIME), time=datetime.now(UTC))


def boot_id(path: Path = _BOOT_ID) -> BootId:
    """The id of this boot. Raises OSError where the kernel does not tell."""
    return BootId(path.read_text(encoding="ascii").strip())
