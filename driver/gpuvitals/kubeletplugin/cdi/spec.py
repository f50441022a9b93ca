"""The CDI spec of one claim: from its devices and the driver's parts to the file's bytes. Pure.

Source: cncf-tags/container-device-interface SPEC.md v1.1.0. There are no hooks, because a runtime runs them as root on the host.
"""

import json
from dataclasses import dataclass
from typing import Any

from gpuvitals.inventory.naming import Naming
from gpuvitals.json_text import json_value
from gpuvitals.kubeletplugin.checkpoint.format import claim_from_text, claim_to_text
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.model.ids import BootId, ClaimUid

CDI_VERSION = "0.6.0"
"""The lowest version with annotations. An annotation holds the checkpoint's entry, as a second record of the claim."""

_CLASS = "claim"
_MOUNT_OPTIONS = ("ro", "nosuid", "nodev", "rbind", "rprivate")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device node: `path` in the container, `host_path` on the host as seen by the runtime."""

    path: str
    host_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file of the driver, bind-mounted read-only."""

    host_path: str
    container_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverParts:
    """Parts for every container with a GPU: control nodes, libraries and programs of the driver."""

    nodes: tuple[DeviceNode, ...]
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimParts:
    """The parts of a claim's spec: the common ones of the driver, and the device nodes of each held device."""

    common: DriverParts
    device_nodes: tuple[tuple[DeviceNode, ...], ...]


def cdi_kind(naming: Naming) -> str:
    """`k8s.<driver>/claim`."""
    return f"k8s.{naming.driver}/{_CLASS}"


def cdi_device_name(uid: ClaimUid, device: HeldDevice) -> str:
    """A name unique to claim, device, share and access, because the kubelet merges equal ids and runtimes cache specs."""
    name = f"{uid}-{device.device}"
    if device.share_id is not None:
        name += f"-share-{device.share_id}"
    return f"{name}-admin" if device.admin else name


def cdi_device_id(naming: Naming, uid: ClaimUid, device: HeldDevice) -> str:
    """The fully qualified name that the kubelet passes to the runtime."""
    return f"{cdi_kind(naming)}={cdi_device_name(uid, device)}"


def file_prefix(naming: Naming) -> str:
    """The prefix of this driver's spec file names."""
    return f"k8s.{naming.driver}-{_CLASS}_"


def file_name(naming: Naming, uid: ClaimUid) -> str:
    """The name of a claim's spec file. `uid` was checked by `plan.invalid_ref`."""
    return f"{file_prefix(naming)}{uid}.json"


def uid_of_file(naming: Naming, name: str) -> ClaimUid | None:
    """The UID in the name of a claim's spec file; None for other files."""
    prefix = file_prefix(naming)
    if not name.startswith(prefix) or not name.endswith(".json"):
        return None
    return ClaimUid(name[len(prefix) : -len(".json")])


def spec_bytes(held: HeldClaim, parts: ClaimParts, naming: Naming, boot: BootId) -> bytes:
    """The file's content. Equal arguments give equal bytes."""
    spec = {
        "cdiVersion": CDI_VERSION,
        "kind": cdi_kind(naming),
        "annotations": {
            _entry_key(naming): claim_to_text(held),
            _boot_key(naming): str(boot),
        },
        "devices": [
            {
                "name": cdi_device_name(held.claim.uid, device),
                "containerEdits": _device_edits(device, nodes),
            }
            for device, nodes in zip(held.devices, parts.device_nodes, strict=True)
        ],
        "containerEdits": {
            # NVIDIA's legacy runtime hook would otherwise inject all GPUs as well.
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [_node(node) for node in parts.common.nodes],
            "mounts": [_mount(mount) for mount in parts.common.mounts],
        },
    }
    # On one line: json's fast encoder does not indent, and a pod waits for this.
    return (json.dumps(spec, sort_keys=True) + "\n").encode()


def recorded_claim(content: bytes, naming: Naming, boot: BootId) -> HeldClaim | None:
    """The claim recorded in a spec file of this driver and this boot; None for other files."""
    try:
        spec: Any = json_value(content)
        if spec["kind"] != cdi_kind(naming) or spec["annotations"][_boot_key(naming)] != boot:
            return None
        return claim_from_text(spec["annotations"][_entry_key(naming)])
    except (ValueError, KeyError, TypeError):
        return None


def is_ours(content: bytes, naming: Naming) -> bool:
    """Whether the spec's kind is this driver's. True for unreadable content, since the file has this driver's name."""
    try:
        spec: Any = json_value(content)
        kind = spec["kind"]
    except (ValueError, KeyError, TypeError):
        return True
    return bool(kind == cdi_kind(naming))


def _entry_key(naming: Naming) -> str:
    return f"{naming.api_group}/prepared"


def _boot_key(naming: Naming) -> str:
    return f"{naming.api_group}/boot"


def _device_edits(device: HeldDevice, nodes: tuple[DeviceNode, ...]) -> dict[str, object]:
    env = [f"{name}={value}" for name, value in device.env]
    if device.admin:
        env.append("GPUVITALS_ADMIN_ACCESS=true")
    if not nodes:
        # CDI refuses a device without edits. Source: SPEC.md of CDI, "containerEdits".
        env.append("GPUVITALS_DEVICE_REPLACED=true")
    edits: dict[str, object] = {"deviceNodes": [_node(node) for node in nodes]}
    if env:
        edits["env"] = env
    return edits


def _node(node: DeviceNode) -> dict[str, str]:
    """A node without type and numbers: the runtime reads them at injection, after any renumbering."""
    found = {"path": node.path, "permissions": "rw"}
    if node.host_path != node.path:
        found["hostPath"] = node.host_path
    return found


def _mount(mount: Mount) -> dict[str, object]:
    return {
        "hostPath": mount.host_path,
        "containerPath": mount.container_path,
        "options": list(_MOUNT_OPTIONS),
    }
