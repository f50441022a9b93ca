"""The only reader of the system's clocks."""

import time
from datetime import UTC, datetime
from pathlib import Path

from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import BootId

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Moments of this machine: CLOCK_BOOTTIME, which continues during suspend and never jumps, and UTC for display."""

    def now(self) -> Moment:
        """The present Moment."""
        return Moment(at=time.clock_gettime(time.CLOCK_BOOTTIME), time=datetime.now(UTC))


def boot_id(path: Path = _BOOT_ID) -> BootId:
    """The ID of this boot. Raises OSError if the kernel does not provide it."""
    return BootId(path.read_text(encoding="ascii").strip())
