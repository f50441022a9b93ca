"""Kernel settings that a kubelet and a network plugin change for the whole machine, put back after the last cluster."""

import contextlib
import json
from pathlib import Path

_NAMES = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_ROOT = Path("/proc/sys")


def remember(record: Path) -> None:
    """Writes the values down unless an earlier cluster of this machine did: then they are no longer the machine's own."""
    if not record.exists():
        values = {name: (_ROOT / name).read_text() for name in _NAMES if (_ROOT / name).exists()}
        record.write_text(json.dumps(values), encoding="utf-8")


def restore(record: Path) -> None:
    """Puts the remembered values back and forgets them."""
    if not record.exists():
        return
    for name, value in json.loads(record.read_text(encoding="utf-8")).items():
        with contextlib.suppress(OSError):  # a container may not write some of them, and so changed none
            if (_ROOT / name).read_text() != value:
                (_ROOT / name).write_text(value)
    record.unlink()
