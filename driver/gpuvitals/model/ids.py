"""Identifiers, each with a type of its own, so that one can't be passed in place of another."""

from typing import NewType

GpuUuid = NewType("GpuUuid", str)
"""`GPU-<uuid>`, or `MIG-<uuid>` for a MIG instance. The only identity of a device; indexes change."""

PciBusId = NewType("PciBusId", str)
"""A normalised bus ID (`model.pci`): lower case, at least four hex digits of domain, with function: `0000:3b:00.0`."""

NodeName = NewType("NodeName", str)
DeviceName = NewType("DeviceName", str)
"""The name of a device in its pool, a DNS label such as `gpu-0000-3b-00-0`."""

ClaimUid = NewType("ClaimUid", str)
BootId = NewType("BootId", str)
"""Content of /proc/sys/kernel/random/boot_id: changes with every boot, never within one."""

Reason = NewType("Reason", str)
"""An entry of the closed list in `health.reasons`, CamelCase: `None`, `Xid79`, `RowRemapPending`."""
