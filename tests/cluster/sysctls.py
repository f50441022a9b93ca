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


def remember(record: Path, root: Path = _ROOT) -> None:
    """Writes the values down unless an earlier cluster of this machine did: then they are no longer the machine's own."""
    values = {name: (root / name).read_text() for name in _NAMES if (root / name).exists()}
    with contextlib.suppress(FileExistsError), record.open("x", encoding="utf-8") as file:
        json.dump(values, file)


def restore(record: Path, root: Path = _ROOT) -> None:
    """Puts the remembered values back and forgets them."""
    if not record.exists():
        return
    for name, value in json.loads(record.read_text(encoding="utf-8")).items():
        with contextlib.suppress(OSError):  # a container may not write some of them, and so changed none
            if (root / name).read_text() != value:
                (root / name).write_text(value)
    record.unlink()
