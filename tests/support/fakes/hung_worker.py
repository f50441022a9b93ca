"""A backend of the NVML worker whose process does not end when it is killed, as one in uninterruptible sleep.

A process in uninterruptible sleep can't be made without a driver. To its parent a traced one looks the same: its exit is
reported to the tracer first, so the parent waits until the tracer detaches.
"""

import ctypes
import os
import time
from pathlib import Path

from gpuvitals_sim.hardware.nvml_backend import ScriptedBackend, scripted_backend

BACKEND = "support.fakes.hung_worker:unkillable_backend"
LET_GO = "GPUVITALS_TEST_LET_GO"
"""Names a file; when it is there, the tracers end."""

_PTRACE_SEIZE = 0x4206
_PR_SET_PTRACER = 0x59616D61
_ANY = ctypes.c_ulong(-1)
_PATIENCE_SECONDS = 60.0


def unkillable_backend() -> ScriptedBackend:
    """The scripted GPUs, once this process is traced. Raises OSError if that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    worker, (reader, writer) = os.getpid(), os.pipe()
    if not os.fork():
        result = libc.ptrace(_PTRACE_SEIZE, worker, None, None)
        os.write(writer, b"%d" % (ctypes.get_errno() if result else 0))
        os.closerange(0, 64)
        _hold()
        os._exit(0)
    os.close(writer)
    error = int(os.read(reader, 16))
    os.close(reader)
    if error:
        raise OSError(error, f"ptrace: {os.strerror(error)}")
    return scripted_backend()


def _hold() -> None:
    ends = time.monotonic() + _PATIENCE_SECONDS
    while not Path(os.environ[LET_GO]).exists() and time.monotonic() < ends:
        time.sleep(0.02)
