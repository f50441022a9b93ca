"""What a CDI spec for one claim says. Pure: from held devices and found driver parts to the file's bytes.

Source: cncf-tags/container-device-interface SPEC.md v1.1.0. No hooks: the runtime runs them as root on the host.
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
"""The lowest version that has annotations. They carry the checkpoint's entry: a second witness on this disk."""

_CLASS = "claim"
_MOUNT_OPTIONS = ("ro", "nosuid", "nodev", "rbind", "rprivate")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device node: `path` in the container, `host_path` as the runtime sees it on the host."""

    path: str
    host_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file of the driver, bind-mounted read-only."""

    host_path: str
    container_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverParts:
    """What every container with a GPU gets: control nodes, libraries and binaries of the driver."""

    nodes: tuple[DeviceNode, ...]
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimParts:
    """All that a claim's spec needs: the driver's common parts and, per held device, its own nodes."""

    common: DriverParts
    device_nodes: tuple[tuple[DeviceNode, ...], ...]


def cdi_kind(naming: Naming) -> str:
    """`k8s.<driver>/claim`."""
    return f"k8s.{naming.driver}/{_CLASS}"


def cdi_device_name(uid: ClaimUid, device: HeldDevice) -> str:
    """Unique for a claim's device, share and access: runtimes cache specs and the kubelet merges equal ids."""
    name = f"{uid}-{device.device}"
    if device.share_id is not None:
        name += f"-share-{device.share_id}"
    return f"{name}-admin" if device.admin else name


def cdi_device_id(naming: Naming, uid: ClaimUid, device: HeldDevice) -> str:
    """The fully qualified name that the kubelet hands to the runtime."""
    return f"{cdi_kind(naming)}={cdi_device_name(uid, device)}"


def file_prefix(naming: Naming) -> str:
    """What the names of our spec files start with."""
    return f"k8s.{naming.driver}-{_CLASS}_"


def file_name(naming: Naming, uid: ClaimUid) -> str:
    """The name of a claim's spec file. `uid` has passed `prepare.invalid_ref`."""
    return f"{file_prefix(naming)}{uid}.json"


def uid_of_file(naming: Naming, name: str) -> ClaimUid | None:
    """The claim whose spec file this name is; None for any other file."""
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
            # a legacy runtime hook would otherwise inject every GPU a second time
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [_node(node) for node in parts.common.nodes],
            "mounts": [_mount(mount) for mount in parts.common.mounts],
        },
    }
    # On one line: json's fast encoder knows no indent, and a pod waits for this.
    return (json.dumps(spec, sort_keys=True) + "\n").encode()


def recorded_claim(content: bytes, naming: Naming, boot: BootId) -> HeldClaim | None:
    """The claim that a spec file of ours and of this boot was written for; None where it is neither."""
    try:
        spec: Any = json_value(content)
        if spec["kind"] != cdi_kind(naming) or spec["annotations"][_boot_key(naming)] != boot:
            return None
        return claim_from_text(spec["annotations"][_entry_key(naming)])
    except (ValueError, KeyError, TypeError):
        return None


def is_ours(content: bytes, naming: Naming) -> bool:
    """Whether the file's kind is ours. Content that can't be read as a spec is nobody's, so ours by its name."""
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
    """Type, major and minor are left to the runtime: it reads them when it injects, after any renumbering."""
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
