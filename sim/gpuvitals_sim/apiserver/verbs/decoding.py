"""Decodes bodies into objects.

Place in the chain: first step of every write: checks the kind, drops nulls and unknown fields, fills defaults in.
"""

import json

from gpuvitals_sim.apiserver.errors import ApiError, bad_request, invalid, invalid_value
from gpuvitals_sim.apiserver.json_types import Obj, clone
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.managed_fields.field_set import duplicate_items
from gpuvitals_sim.apiserver.merge_schema import merge_schema_of
from gpuvitals_sim.apiserver.request import WriteOptions, served, stored
from gpuvitals_sim.apiserver.strategy.custom import drop_unknown
from gpuvitals_sim.apiserver.strategy.known_fields import (
    MalformedFieldError,
    WrongTypeError,
    keep_known,
    known_fields,
)
from gpuvitals_sim.apiserver.strategy.table import rules_for

_OMITTED = ("labels", "annotations", "finalizers", "ownerReferences")
"""Fields that Go omits if they are empty."""

_HEAD = ("kind", "apiVersion", "metadata")


def decoded(kind: Kind, body: object, options: WriteOptions | None = None) -> Obj:
    """The object of a body, as a copy. Raises ApiError 400; strict options refuse unknown fields."""
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.name})")
    _check_kind(kind, body)
    rest = {key: value for key, value in body.items() if key not in _HEAD}
    given = body.get("metadata") or {}
    metadata = {key: value for key, value in given.items() if value or key not in _OMITTED}
    obj: Obj = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata, **rest}
    obj = clone(obj)
    _complain(kind, _drop_unknown(kind, obj), options)
    if kind.status and not kind.custom:
        obj.setdefault("status", {})
    shown = stored(kind, obj)
    rules_for(kind).default(shown)
    return served(kind, shown)


def decoded_patch(kind: Kind, patched: Obj, options: WriteOptions, *, shown: str) -> Obj:
    """As `decoded`, for a patched object: an error is a 422 on the patch, which shows `shown`."""
    try:
        return decoded(kind, patched, options)
    except ApiError as refusal:
        why = refusal.message.partition(": ")[2] or refusal.message
        raise invalid("", "", "", [invalid_value("patch", shown, why)]) from refusal


def check_typed(kind: Kind, config: Obj) -> None:
    """Checks a configuration to apply against its type. Raises ApiError 500, as the real server does."""
    probe, texts, metadata = clone(config), [], config.get("metadata") or {}
    group_version_kind = f"{kind.group}/{kind.version}, Kind={kind.name}"
    about = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {group_version_kind}"
    if kind.custom:
        texts = [f".{path}: field not declared in schema" for path in drop_unknown(probe, kind.schema)]
    elif (known := known_fields(kind)) is not None:
        try:
            texts = [f".{path}: field not declared in schema" for path in keep_known(probe, known)]
        except WrongTypeError as error:
            texts = [error.schema_text()]
        except MalformedFieldError as error:
            why = f"to proper version: unable to convert unstructured object to {group_version_kind}: {error}"
            raise ApiError(500, "", f"failed to convert new object ({about}) {why}") from error
    texts = texts or duplicate_items(config, merge_schema_of(kind))
    if texts:
        listed = texts[0] if len(texts) == 1 else "\n  ".join(["errors:", *texts])
        raise ApiError(500, "", f"failed to create typed patch object ({about}): {listed}")


def _drop_unknown(kind: Kind, obj: Obj) -> list[str]:
    if kind.custom:
        return drop_unknown(obj, kind.schema)
    known = known_fields(kind)
    if known is None:
        return []
    try:
        return keep_known(obj, known)
    except WrongTypeError as error:
        raise bad_request(_cannot_be(kind, error.json_text())) from error
    except MalformedFieldError as error:
        raise bad_request(_cannot_be(kind, str(error))) from error


def _complain(kind: Kind, unknown: list[str], options: WriteOptions | None) -> None:
    """Refuses or reports duplicate and unknown fields of a body."""
    if options is None:
        return
    complaints = [f'duplicate field "{path}"' for path in options.duplicates]
    complaints += [f'unknown field "{path}"' for path in unknown]
    if options.field_validation == "Strict" and complaints:
        raise bad_request(_cannot_be(kind, f"strict decoding error: {', '.join(complaints)}"))
    if options.field_validation == "Warn":
        for complaint in complaints:
            options.warn(complaint)


def _check_kind(kind: Kind, body: Obj) -> None:
    api_version, name = str(body.get("apiVersion") or ""), str(body.get("kind") or "")
    if kind.custom and not name:
        shown = json.dumps(body)
        why = f"Object 'Kind' is missing in '{shown}' ({shown})"
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.name}): {why}")
    if name in ("", kind.name):
        if api_version not in ("", kind.api_version):
            wanted = f"does not match the expected API version ({kind.api_version})"
            raise bad_request(f"the API version in the data ({api_version}) {wanted}")
        return
    version = api_version.rpartition("/")[2]
    package = kind.group.split(".")[0] or "core"
    why = f"converting ({version}.{name}) to ({package}.{kind.name}): unknown conversion"
    raise bad_request(f'{name} in version "{version}" cannot be handled as a {kind.name}: {why}')


def _cannot_be(kind: Kind, why: str) -> str:
    return f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {why}'
