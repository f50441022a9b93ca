"""Names of things, told apart by type so that one is never passed for another."""

from typing import NewType

GpuUuid = NewType("GpuUuid", str)
"""`GPU-<uuid>`, or `MIG-<uuid>` for a MIG instance. The identity of a device; an index never is."""

PciBusId = NewType("PciBusId", str)
"""One spelling everywhere: lower case, four or more hex digits of domain, function present: `0000:3b:00.0`."""

NodeName = NewType("NodeName", str)
DeviceName = NewType("DeviceName", str)
"""Name of a device in its pool: a DNS label such as `gpu-3`."""

ClaimUid = NewType("ClaimUid", str)
BootId = NewType("BootId", str)
"""Content of /proc/sys/kernel/random/boot_id: changes with every boot, never within one."""

Reason = NewType("Reason", str)
"""An entry of the closed list in `health.reasons`, CamelCase: `None`, `Xid79`, `RowRemapPending`."""
