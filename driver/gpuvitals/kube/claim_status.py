"""Our entries in a claim's `status.devices`: encodes them for server-side apply, and compares them with stored ones.

The body has the claim's UID, so an apply cannot change a claim that was re-created under the same name.
"""

from collections.abc import Iterable
from datetime import UTC
from typing import Any

import msgspec

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef, Condition
from gpuvitals.kube.claim_reader import StoredEntries, claim_path
from gpuvitals.kube.transport import APPLY_PATCH, Call

FIELD_MANAGER = "gpuvitals-agent"
_WRITE_SECONDS = 5.0
_MAX_TEXT = 1024
"""Characters of a message or a value: far below the server's limits (32 KiB a message, 10 KiB the data of a device).

Source: kubernetes/api resource/v1/types.go; kubernetes/apimachinery pkg/apis/meta/v1/types.go, Condition.
"""


class _StoredCondition(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class _StoredEntry(msgspec.Struct, frozen=True, rename="camel"):
    driver: str = ""
    pool: str = ""
    device: str = ""
    share_id: str | None = msgspec.field(default=None, name="shareID")
    conditions: tuple[_StoredCondition, ...] = ()
    data: Any = None


_ENTRY = msgspec.json.Decoder(_StoredEntry)


def apply_body(claim: ClaimRef, entries: tuple[ClaimEntry, ...]) -> bytes:
    """The server-side apply of our entries, with the claim's UID as a guard; stable bytes."""
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid},
        "status": {"devices": [_entry(entry) for entry in entries]},
    }
    return msgspec.json.encode(body, order="deterministic")


def is_shown(entries: tuple[ClaimEntry, ...], stored: StoredEntries) -> bool:
    """Whether the stored status has our entries. Conditions that other clients added to them are ignored."""
    found = {(entry.driver, entry.pool, entry.device, entry.share_id): entry for entry in _readable(stored)}
    for wanted in map(_entry, entries):
        entry = found.get((wanted["driver"], wanted["pool"], wanted["device"], wanted.get("shareID")))
        if entry is None or entry.data != wanted["data"]:
            return False
        shown = {condition.type: msgspec.to_builtins(condition) for condition in entry.conditions}
        if any(shown.get(condition["type"]) != condition for condition in wanted["conditions"]):
            return False
    return True


def _readable(stored: StoredEntries) -> Iterable[_StoredEntry]:
    """The entries that can be read: an entry of another driver must not fail the comparison."""
    for raw in stored:
        try:
            yield _ENTRY.decode(raw)
        except msgspec.DecodeError:
            continue


def apply_call(claim: ClaimRef, body: bytes) -> Call:
    """The request that applies a body of `apply_body`."""
    return Call(
        method="PATCH",
        path=claim_path(claim.namespace, claim.name) + "/status",
        query=(("fieldManager", FIELD_MANAGER), ("force", "true")),
        body=body,
        content_type=APPLY_PATCH,
        deadline_seconds=_WRITE_SECONDS,
    )


def _entry(entry: ClaimEntry) -> dict[str, Any]:
    body: dict[str, Any] = {
        "driver": entry.driver,
        "pool": entry.pool,
        "device": entry.device,
        "conditions": [_condition(condition) for condition in entry.conditions],
        "data": {key: _cut(value) if isinstance(value, str) else value for key, value in entry.data},
    }
    if entry.share_id is not None:
        body["shareID"] = entry.share_id
    return body


def _condition(condition: Condition) -> dict[str, str]:
    at = condition.transition_time.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    return {
        "type": condition.type,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": _cut(condition.message),
        "lastTransitionTime": f"{at.isoformat()}Z",
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
