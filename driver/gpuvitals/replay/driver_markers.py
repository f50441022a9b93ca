"""Markers that identify lines of NVIDIA's drivers, and detection of other programs that quote them. Pure."""

import re

DRIVER_MARKER = re.compile(
    rb"NVRM:|(?<![/\w])nvidia-(?:nvswitch[0-9]*|nvlink|modeset|uvm): |\[nvidia-drm\]|\bS?Xid \(|fallen off the bus"
)
"""Text that occurs in the lines of NVIDIA's drivers.

Source: NVIDIA/open-gpu-kernel-modules 595.45.04, kernel-open: nvidia/os-interface.c (NVRM), nvidia/linux_nvswitch.c,
nvidia/nvlink_linux.c, nvidia-modeset, nvidia-uvm, nvidia-drm.
"""

_HEADER = re.compile(
    r"NVRM: Xid \((?:PCI:)?[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[01][0-9A-Fa-f]|nvidia-nvswitch[0-9]+: SXid \("
    r"|NVRM: GPU (?:at )?(?:PCI:)?[0-9a-f:.]+:? (?:GPU has|has fallen|RmInitAdapter failed|rm_init_adapter failed)"
)
_PROGRAM = re.compile(rb"(?:[^ ]*[^ :] )?(?P<name>[^ :\[]+)(?:\[[^\]]{1,40}\])?: ")
KERNEL_NAMES = frozenset({b"kernel", b"kern", b"klogd", b"klog", b"kmsg", b"linux", b"vmunix"})
"""Program names that syslog daemons and relays use for the kernel."""


def is_program_line(text: bytes) -> bool:
    """Whether a program's name precedes the driver marker, with or without a host name.

    Text without such a name has an unknown writer: it may be the kernel, in a format that is not supported.
    """
    mark, program = DRIVER_MARKER.search(text), _PROGRAM.match(text)
    if mark is None or program is None or program.end() > mark.start():
        return False
    return program["name"].lower() not in KERNEL_NAMES


def contains_fault_header(text: str) -> bool:
    """Whether a driver line about a GPU or an NVSwitch occurs within the text, but not at its start."""
    match = _HEADER.search(text)
    return match is not None and match.start() > 0
