"""Requests as values: the target object and the options.

Place in the chain: the HTTP side and `InProcessClient` create them; the verbs read them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gpuvitals_sim.apiserver.errors import bad_request
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import Catalogue, Kind
from gpuvitals_sim.apiserver.storage import Key, Store

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object or collection of a request; `name` is empty for a collection."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """The object's key in the store."""
        return Key(self.kind.store_id, self.namespace, self.name)


def _ignored(_warning: str) -> None:
    """Drops warnings of callers without HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Options of create, update and patch.

    `duplicates` are the paths of duplicate keys in the body; `warn` gets each warning for the answer.
    """

    dry_run: bool = False
    field_manager: str = ""
    user_agent: str = "unknown"
    force: bool = False
    field_validation: str = "Warn"
    duplicates: tuple[str, ...] = ()
    warn: Callable[[str], object] = _ignored

    @property
    def manager(self) -> str:
        """The owner of the written fields: the named manager, else the program's name."""
        return self.field_manager or self.user_agent.split("/")[0][:128] or "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """Options of list; `limit` 0 means everything."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """Options of watch; no resourceVersion, or "0", begins with the present objects as ADDED."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    bookmarks: bool = False
    send_initial_events: bool = False
    timeout_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Options of delete; `uid` and `resource_version` are preconditions."""

    grace_seconds: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    def body(self) -> Obj:
        """The `DeleteOptions` object that a client sends."""
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        given = {
            "gracePeriodSeconds": self.grace_seconds,
            "propagationPolicy": self.propagation or None,
            "preconditions": {name: value for name, value in preconditions.items() if value} or None,
            "dryRun": ["All"] if self.dry_run else None,
        }
        head = {"apiVersion": "v1", "kind": "DeleteOptions"}
        return head | {name: value for name, value in given.items() if value is not None}


@dataclass(slots=True, kw_only=True)
class Cluster:
    """The state on which the verbs work. `dropped` are field paths that this server drops silently, per store id.

    `cel_checker` returns the error of a CEL selector, or None; without a checker every selector is accepted.
    """

    store: Store
    catalogue: Catalogue
    dropped: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    cel_checker: Callable[[str], str | None] | None = None


def served(kind: Kind, stored: Obj) -> Obj:
    """The stored object in this version of its kind."""
    if not kind.view and stored.get("apiVersion") == kind.api_version:
        return stored
    shown = {
        kind.view.get(key, key): value
        for key, value in stored.items()
        if value != "" or not kind.view or not key.startswith("reporting")
    }
    return {**shown, "kind": kind.name, "apiVersion": kind.api_version}


def stored(kind: Kind, shown: Obj) -> Obj:
    """The object as it is stored; the reverse of `served`."""
    if not kind.view:
        return shown
    names = {name: key for key, name in kind.view.items()}
    return {**{names.get(key, key): value for key, value in shown.items()}, "apiVersion": "v1"}


def parse_revision(text: str) -> int:
    """A resourceVersion as number; empty is 0. Raises ApiError 400."""
    if not text:
        return 0
    if not text.isdigit():
        why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise bad_request(f'invalid resource version: resourceVersion: Invalid value: "{text}": {why}')
    return int(text)
