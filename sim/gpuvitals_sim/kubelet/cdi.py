"""Resolves CDI IDs as a container runtime does, from the spec files present at container start.

Place in the chain: between prepared claims and a container. Files are read at each start; a later folder wins.
Source: cncf-tags/container-device-interface SPEC.md 1.1.0 and its Go library (strict decoding).
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)

_SUFFIXES = (".json", ".yaml")
_FIELDS = {
    "spec": {"cdiVersion", "kind", "annotations", "devices", "containerEdits"},
    "device": {"name", "annotations", "containerEdits"},
    "edits": {"env", "deviceNodes", "netDevices", "hooks", "mounts", "intelRdt", "additionalGids"},
    "deviceNode": {"path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"},
    "mount": {"hostPath", "containerPath", "options", "type"},
    "hook": {"hookName", "path", "args", "env", "timeout"},
}
_LISTS = (("deviceNodes", "deviceNode"), ("mounts", "mount"), ("hooks", "hook"))


class InjectionFailed(Exception):
    """The container can't be created; the message is containerd's."""


@dataclass(slots=True, kw_only=True)
class Edits:
    """The container edits of CDI specs, merged."""

    env: list[str] = field(default_factory=list)
    device_nodes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    hooks: list[dict[str, Any]] = field(default_factory=list)

    def add(self, edits: dict[str, Any]) -> None:
        """Adds one `containerEdits`."""
        self.env += edits.get("env") or []
        self.device_nodes += edits.get("deviceNodes") or []
        self.mounts += edits.get("mounts") or []
        self.hooks += edits.get("hooks") or []


def resolve(directories: Sequence[Path], ids: Sequence[str]) -> Edits:
    """The merged edits of these devices. Raises InjectionFailed naming every ID that no valid spec has."""
    devices = dict(_devices(directories))
    missing = [one for one in ids if one not in devices]
    if missing:
        raise InjectionFailed(
            "failed to create containerd container: CDI device injection failed: "
            f"unresolvable CDI devices {', '.join(missing)}"
        )
    edits = Edits()
    seen: set[int] = set()
    for one in ids:
        spec, device = devices[one]
        if id(spec) not in seen:
            seen.add(id(spec))
            edits.add(spec.get("containerEdits") or {})
        edits.add(device.get("containerEdits") or {})
    for node in edits.device_nodes:
        _check_node(node)
    return edits


def _devices(directories: Sequence[Path]) -> Iterator[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    for directory in directories:
        if not directory.is_dir():
            continue
        for path in sorted(directory.iterdir()):
            if path.suffix in _SUFFIXES:
                spec = _load(path)
                for device in spec.get("devices") or ():
                    yield f"{spec['kind']}={device['name']}", (spec, device)


def _load(path: Path) -> dict[str, Any]:
    """The spec; an invalid one counts as empty, as in the runtime."""
    try:
        text = path.read_text(encoding="utf-8")
        spec = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        _check_spec(spec)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        log.warning("CDI spec %s: %s; its devices can't be resolved", path, error)
        return {}
    checked: dict[str, Any] = spec
    return checked


def _check_spec(spec: object) -> None:
    _only("spec", spec)
    if not isinstance(spec, dict) or not spec.get("devices"):
        raise ValueError("invalid spec, no devices")
    if "/" not in str(spec.get("kind", "")) or not spec.get("cdiVersion"):
        raise ValueError("invalid spec, kind or cdiVersion missing")
    _check_edits(spec.get("containerEdits"))
    for device in spec["devices"]:
        _only("device", device)
        _check_edits(device.get("containerEdits"))


def _check_edits(edits: object) -> None:
    if edits is None:
        return
    _only("edits", edits)
    if isinstance(edits, dict):
        for name, kind in _LISTS:
            for entry in edits.get(name) or ():
                _only(kind, entry)


def _only(kind: str, value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{kind} is no object")
    unknown = set(value) - _FIELDS[kind]
    if unknown:
        raise ValueError(f"unknown field {min(unknown)!r} in {kind}")


def _check_node(node: dict[str, Any]) -> None:
    """Checks a device node; one without device numbers must exist on the host. Raises InjectionFailed."""
    if node.get("type") and (node.get("major") or node["type"] == "p"):
        return
    path = node.get("hostPath") or node.get("path", "")
    if not Path(path).exists():
        raise InjectionFailed(
            "failed to create containerd container: CDI device injection failed: failed to inject devices: "
            f'failed to stat CDI host device "{path}": no such file or directory'
        )
