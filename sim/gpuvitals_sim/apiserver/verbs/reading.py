"""Get and list: one object, or a page of a consistent snapshot.

Place in the chain: reads the store for the HTTP side and `InProcessClient`. A list shows the newest state; its
continue token holds the revision of the first page, so that all pages show one revision.
"""

import base64
import binascii
import json

from gpuvitals_sim.apiserver.errors import ApiError, bad_request, expired, not_found, too_large_version
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.request import Cluster, ListOptions, Target, parse_revision, served
from gpuvitals_sim.apiserver.selectors import object_matcher
from gpuvitals_sim.apiserver.storage import Key

_EXPIRED_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
    "the results. Continuing with the provided token results in an inconsistent list - objects that were "
    "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
    "list."
)


_NEWEST = -1
"""The revision of a token that continues without consistency, from the present state."""


def get(cluster: Cluster, target: Target) -> Obj:
    """The object. Raises ApiError 404."""
    found = cluster.store.get(target.key)
    if found is None:
        raise not_found(target.kind.group, target.kind.plural, target.name)
    return served(target.kind, found)


def list_objects(cluster: Cluster, target: Target, options: ListOptions) -> Obj:
    """A List object: all matching objects, or a page with a token for the next one."""
    kind = target.kind
    matches = object_matcher(kind, options.label_selector, options.field_selector)
    with cluster.store.lock:
        revision, after = _starting_point(cluster, options)
        pairs = _snapshot(cluster, kind, revision, after)
    scoped = (
        (key, obj)
        for key, obj in pairs
        if (not target.namespace or key.namespace == target.namespace) and (after is None or key > after)
    )
    chosen = [(key, obj) for key, obj in scoped if matches is None or matches(obj)]
    metadata: Obj = {"resourceVersion": str(revision)} | ({"continue": ""} if kind.custom else {})
    if options.limit and len(chosen) > options.limit:
        rest = len(chosen) - options.limit
        chosen = chosen[: options.limit]
        metadata["continue"] = _token(revision, chosen[-1][0])
        if matches is None:
            metadata["remainingItemCount"] = rest
    items = [_item(kind, obj) for _, obj in chosen]
    return {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata, "items": items}


def _item(kind: Kind, obj: Obj) -> Obj:
    """The item of a list: built-in ones omit their kind, custom resources repeat it."""
    shown = served(kind, obj)
    if kind.custom:
        return shown
    return {key: value for key, value in shown.items() if key not in ("kind", "apiVersion")}


def _starting_point(cluster: Cluster, options: ListOptions) -> tuple[int, Key | None]:
    current = cluster.store.revision
    if options.continue_token:
        if options.resource_version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        revision, after = _parse_token(options.continue_token)
        return (current if revision == _NEWEST else revision), after
    wanted = parse_revision(options.resource_version)
    if wanted > current:
        raise too_large_version(wanted, current)
    exact = options.resource_version_match == "Exact"
    return (wanted if exact and wanted else current), None


def _snapshot(cluster: Cluster, kind: Kind, revision: int, after: Key | None) -> list[tuple[Key, Obj]]:
    try:
        return cluster.store.objects(kind.store_id, revision=revision)
    except ApiError as refusal:
        if after is None:
            raise
        raise expired(_EXPIRED_TOKEN, continue_token=_token(_NEWEST, after)) from refusal


def _token(revision: int, last: Key) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": list(last)}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_token(token: str) -> tuple[int, Key]:
    try:
        data = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(data["rv"]), Key(*data["start"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error
