"""The words by which a driver's lines are known, and whether another program quotes them. Pure."""

import re

MARK = re.compile(
    rb"NVRM:|(?<![/\w])nvidia-(?:nvswitch[0-9]*|nvlink|modeset|uvm): |\[nvidia-drm\]|\bS?Xid \(|fallen off the bus"
)
"""The words by which the lines of NVIDIA's drivers are known.

Source: NVIDIA/open-gpu-kernel-modules 595.45.04, kernel-open: nvidia/os-interface.c (NVRM), nvidia/linux_nvswitch.c,
nvidia/nvlink_linux.c, nvidia-modeset, nvidia-uvm, nvidia-drm.
"""

_HEADER = re.compile(
    r"NVRM: Xid \((?:PCI:)?[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[01][0-9A-Fa-f]|nvidia-nvswitch[0-9]+: SXid \("
    r"|NVRM: GPU (?:at )?(?:PCI:)?[0-9a-f:.]+:? (?:GPU has|has fallen|RmInitAdapter failed|rm_init_adapter failed)"
)
_PROGRAM = re.compile(rb"(?:[^ ]*[^ :] )?(?P<name>[^ :\[]+)(?:\[[^\]]{1,40}\])?: ")
KERNELS_NAMES = frozenset({b"kernel", b"kern", b"klogd", b"klog", b"kmsg", b"linux", b"vmunix"})
"""Syslog daemons and relays call the kernel by these."""


def is_of_a_program(text: bytes) -> bool:
    """Whether a program's name stands in front of the driver's words, with or without a host before it.

    Text without such a name is of nobody that is known: it may be the kernel's, in a form that is not read.
    """
    mark, program = MARK.search(text), _PROGRAM.match(text)
    if mark is None or program is None or program.end() > mark.start():
        return False
    return program["name"].lower() not in KERNELS_NAMES


def holds_header(text: str) -> bool:
    """Whether a driver's line about a GPU or a switch stands inside of the text, and not at its start."""
    match = _HEADER.search(text)
    return match is not None and match.start() > 0
