"""The checkpoint as text: schema 1. Pure.

    {"schema": 1, "boot": "<boot id>", "claims": [<entry>...], "tombstones": [...], "quarantined": [<raw>...]}

A field that older readers may drop can be added under the same schema. A newer schema is read as far as its fields are
known, and never overwritten. An entry that can't be read is quarantined: it is kept unchanged, and the other entries
are used.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.json_text import json_value
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice, MigIds
from gpuvitals.model.ids import BootId, ClaimUid, DeviceName, GpuUuid

SCHEMA = 1
_LARGEST = 2**53
_FIRST_YEAR, _LAST_YEAR = 1970, 9000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """The release of a claim at `at` (seconds since boot). It refuses a Prepare that arrived earlier."""

    uid: ClaimUid
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything prepared on this node. `schema` is the version of the file; a newer one is read-only."""

    boot: BootId
    claims: tuple[HeldClaim, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    quarantined: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def newer(self) -> bool:
        """Whether a newer version of the agent wrote the file."""
        return self.schema > SCHEMA

    def find(self, uid: ClaimUid) -> HeldClaim | None:
        """The claim's entry, None if it is not prepared here."""
        return next((held for held in self.claims if held.claim.uid == uid), None)

    def released_at(self, uid: ClaimUid) -> float | None:
        """Seconds since boot at the claim's release, None without a tombstone."""
        return next((stone.at for stone in self.tombstones if stone.uid == uid), None)

    def with_claim(self, held: HeldClaim) -> "State":
        """The state with this entry, which replaces an older one of the same claim."""
        others = tuple(entry for entry in self.claims if entry.claim.uid != held.claim.uid)
        stones = tuple(stone for stone in self.tombstones if stone.uid != held.claim.uid)
        return replace(self, claims=(*others, held), tombstones=stones)

    def without_claim(self, uid: ClaimUid) -> "State":
        """The state without the claim's entries, readable or quarantined; the same state if it has none."""
        claims = tuple(entry for entry in self.claims if entry.claim.uid != uid)
        return replace(self.without_quarantined(uid), claims=claims)

    def without_quarantined(self, uid: ClaimUid) -> "State":
        """The state without the claim's unreadable entries; the same state if it has none."""
        return replace(self, quarantined=tuple(raw for raw in self.quarantined if _raw_uid(raw) != uid))

    def with_tombstone(self, uid: ClaimUid, at: float, kept_seconds: float) -> "State":
        """The state with a tombstone for the claim; tombstones older than `kept_seconds` are dropped."""
        kept = tuple(
            stone for stone in self.tombstones if stone.uid != uid and 0 <= at - stone.at < kept_seconds
        )
        return replace(self, tombstones=(*kept, Tombstone(uid=uid, at=at)))


def encode(state: State) -> bytes:
    """The state as compact JSON."""
    document = {
        "schema": SCHEMA,
        "boot": str(state.boot),
        "claims": [_claim_object(held) for held in state.claims],
        "tombstones": [{"uid": stone.uid, "at": stone.at} for stone in state.tombstones],
        "quarantined": list(state.quarantined),
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def decode(text: bytes, boot: BootId) -> State:
    """The state of this boot. Entries of another boot are dropped: no device or CDI file outlives a boot.

    Raises ValueError if the text is not a checkpoint.
    """
    document = json_value(text)
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        raise ValueError("not a checkpoint: no schema number")
    schema = max(SCHEMA, document["schema"])
    if document.get("boot") != boot:
        return State(boot=boot, schema=schema)
    claims: list[HeldClaim] = []
    quarantined = [raw for raw in _list(document, "quarantined") if isinstance(raw, str)]
    for raw in _list(document, "claims"):
        try:
            claims.append(_claim(raw))
        except (ValueError, KeyError, TypeError, AttributeError):
            quarantined.append(json.dumps(raw, sort_keys=True))
    return State(
        boot=boot,
        claims=tuple(claims),
        tombstones=tuple(_tombstones(_list(document, "tombstones"))),
        quarantined=tuple(quarantined),
        schema=schema,
    )


def claim_to_text(held: HeldClaim) -> str:
    """One entry as JSON, for the annotation of a CDI file."""
    return json.dumps(_claim_object(held), separators=(",", ":"), sort_keys=True)


def claim_from_text(text: str) -> HeldClaim:
    """The inverse of `claim_to_text`. Raises ValueError, KeyError or TypeError."""
    return _claim(json_value(text))


def _list(document: dict[str, object], key: str) -> list[object]:
    value = document.get(key, [])
    return value if isinstance(value, list) else []


def _tombstones(raws: list[object]) -> list[Tombstone]:
    """The readable tombstones. A lost one only weakens the guard against a late Prepare."""
    found: list[Tombstone] = []
    for raw in raws:
        if (
            isinstance(raw, dict)
            and isinstance(raw.get("uid"), str)
            and isinstance(raw.get("at"), int | float)
            and 0 <= raw["at"] < _LARGEST
        ):
            found.append(Tombstone(uid=ClaimUid(raw["uid"]), at=float(raw["at"])))
    return found


def _claim_object(held: HeldClaim) -> dict[str, object]:
    return {
        "namespace": held.claim.namespace,
        "name": held.claim.name,
        "uid": held.claim.uid,
        "time": held.prepared_time.isoformat(),
        "devices": [_device_object(device) for device in held.devices],
    }


def _device_object(device: HeldDevice) -> dict[str, object]:
    found: dict[str, object] = {
        "uuid": device.uuid,
        "device": device.device,
        "minor": device.minor,
        "requests": list(device.requests),
    }
    if device.share_id is not None:
        found["share"] = device.share_id
    if device.admin:
        found["admin"] = True
    if device.env:
        found["env"] = dict(device.env)
    if device.mig is not None:
        found["mig"] = [device.mig.gpu_instance, device.mig.compute_instance]
    return found


def _claim(raw: object) -> HeldClaim:
    entry = _object(raw)
    devices = entry["devices"]
    if not isinstance(devices, list) or not devices:
        raise ValueError("entry has no devices")
    time = _time(_text(entry["time"]))
    if time.tzinfo is None or not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ValueError("entry's time has no time zone, or its year is out of range")
    return HeldClaim(
        claim=ClaimRef(
            namespace=_text(entry["namespace"]),
            name=_text(entry["name"]),
            uid=ClaimUid(_text(entry["uid"])),
        ),
        devices=tuple(_device(device) for device in devices),
        prepared_time=time,
    )


def _device(raw: object) -> HeldDevice:
    entry = _object(raw)
    requests, env, mig = entry["requests"], entry.get("env", {}), entry.get("mig")
    if not isinstance(requests, list) or not isinstance(env, dict):
        raise ValueError("entry's device is malformed")
    share = entry.get("share")
    return HeldDevice(
        uuid=GpuUuid(_text(entry["uuid"])),
        device=DeviceName(_text(entry["device"])),
        minor=_number(entry["minor"]),
        requests=tuple(_text(request) for request in requests),
        share_id=None if share is None else _text(share),
        admin=entry.get("admin") is True,
        env=tuple(sorted((_text(name), _value(value)) for name, value in env.items())),
        mig=None if mig is None else _mig(mig),
    )


def _mig(raw: object) -> MigIds:
    if not isinstance(raw, list) or len(raw) != 2:
        raise ValueError("entry's MIG ids are not a pair")
    return MigIds(gpu_instance=_number(raw[0]), compute_instance=_number(raw[1]))


def _object(raw: object) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise ValueError("entry is not an object")
    return raw


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("entry has a field that is not text")
    return value


def _value(value: object) -> str:
    return "" if value == "" else _text(value)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise ValueError("entry has a field that is not a number of the expected size")
    return value


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        # The message of fromisoformat quotes the whole text.
        raise ValueError(f"entry's time {text[:40]!r} is not an ISO 8601 time") from error


def _raw_uid(raw: str) -> object:
    try:
        entry = json_value(raw)
    except ValueError:
        return None
    return entry.get("uid") if isinstance(entry, dict) else None
