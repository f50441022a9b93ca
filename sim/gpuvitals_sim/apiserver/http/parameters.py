"""Query strings, headers and bodies, parsed into the options and objects of the verbs.

Place in the chain: between routing and the API.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec
import yaml

from gpuvitals_sim.apiserver.api import delete_options
from gpuvitals_sim.apiserver.errors import (
    ApiError,
    FieldError,
    bad_request,
    forbidden_field,
    invalid,
    invalid_value,
    not_supported,
    too_long,
    unsupported_media_type,
)
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.request import DeleteOptions, ListOptions, WatchOptions, WriteOptions

JSON = "application/json"
_READABLE = (JSON, "application/yaml")
_PROTOBUF = "application/vnd.kubernetes.protobuf"
"""As `kubectl create namespace` and its siblings send objects; a real server reads it."""
_INSTEAD = "instead: kubectl create ... --dry-run=client --output yaml | kubectl apply --filename -"
_MATCHES = ("Exact", "NotOlderThan", "")
_MANAGER_BYTES = 128
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The query of one request, by name; the last value counts."""

    values: Mapping[str, str]

    @classmethod
    def parse(cls, query: str) -> "Parameters":
        """From the part behind the question mark."""
        return cls(
            values={name: items[-1] for name, items in parse_qs(query, keep_blank_values=True).items()}
        )

    def text(self, name: str) -> str:
        """The value, empty if absent."""
        return self.values.get(name, "")

    def flag(self, name: str) -> bool:
        """Whether the value is true."""
        return self.values.get(name, "").lower() in ("true", "1", "t")

    def number(self, name: str) -> int:
        """The value as number, 0 if absent. Raises ApiError 400."""
        text = self.values.get(name, "")
        try:
            return int(text) if text else 0
        except ValueError as error:
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error

    @property
    def watching(self) -> bool:
        """Whether the request asks for a stream of changes."""
        return self.flag("watch")

    def list_options(self) -> ListOptions:
        """Options of list and deletecollection. Raises ApiError 400, 422."""
        self.number("timeoutSeconds")
        self._check_match(is_watch=False)
        return ListOptions(
            label_selector=self.text("labelSelector"),
            field_selector=self.text("fieldSelector"),
            limit=self.number("limit"),
            continue_token=self.text("continue"),
            resource_version=self.text("resourceVersion"),
            resource_version_match=self.text("resourceVersionMatch"),
        )

    def watch_options(self) -> WatchOptions:
        """Options of watch. Raises ApiError 400, 422."""
        self._check_match(is_watch=True)
        return WatchOptions(
            label_selector=self.text("labelSelector"),
            field_selector=self.text("fieldSelector"),
            resource_version=self.text("resourceVersion"),
            bookmarks=self.flag("allowWatchBookmarks"),
            send_initial_events=self.flag("sendInitialEvents"),
            timeout_seconds=float(self.number("timeoutSeconds")),
        )

    def _check_match(self, *, is_watch: bool) -> None:
        """Checks the combination of resourceVersionMatch and sendInitialEvents. Raises ApiError 422."""
        match, version = self.text("resourceVersionMatch"), self.text("resourceVersion")
        initial = "sendInitialEvents" in self.values
        error: FieldError | None = None
        if initial and not is_watch:
            error = forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list")
        elif initial and match != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            error = forbidden_field("resourceVersionMatch", text)
        elif match and is_watch and not initial:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            error = forbidden_field("resourceVersionMatch", text)
        elif match and not version and not is_watch:
            text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            error = forbidden_field("resourceVersionMatch", text)
        elif match not in _MATCHES:
            error = not_supported("resourceVersionMatch", match, _MATCHES)
        elif match == "Exact" and version == "0":
            text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            error = forbidden_field("resourceVersionMatch", text)
        if error is not None:
            raise invalid("meta.k8s.io", "ListOptions", "", [error])

    def write_options(self, verb: str, user_agent: str) -> WriteOptions:
        """Options of create, update and patch. Raises ApiError 422."""
        validation, about = self.text("fieldValidation"), f"{verb}Options"
        errors = _manager_errors(self.text("fieldManager"))
        if validation not in _VALIDATIONS:
            errors.append(not_supported("fieldValidation", validation, _VALIDATIONS))
        if errors:
            raise invalid("meta.k8s.io", about, "", errors)
        return WriteOptions(
            dry_run=_is_dry_run([self.values["dryRun"]] if self.text("dryRun") else [], about),
            field_manager=self.text("fieldManager"),
            user_agent=user_agent,
            force=self.flag("force"),
            field_validation=validation or "Warn",
        )

    def delete_options(self, body: Obj | None) -> DeleteOptions:
        """Options of delete, from the body; the query counts only if there is no body. Raises ApiError 422."""
        wanted: Obj = self._delete_query() if body is None else body
        return delete_options(wanted, dry_run=_is_dry_run(wanted.get("dryRun") or [], "DeleteOptions"))

    def _delete_query(self) -> Obj:
        wanted: Obj = {"dryRun": [self.values["dryRun"]] if self.text("dryRun") else []}
        if self.text("gracePeriodSeconds"):
            wanted["gracePeriodSeconds"] = self.number("gracePeriodSeconds")
        if self.text("propagationPolicy"):
            wanted["propagationPolicy"] = self.text("propagationPolicy")
        return wanted


def _manager_errors(manager: str) -> list[FieldError]:
    if len(manager) > _MANAGER_BYTES:
        return [too_long("fieldManager", _MANAGER_BYTES)]
    return [
        invalid_value("fieldManager", manager, f"invalid character U+{ord(letter):04X} (at position {place})")
        for place, letter in enumerate(manager)
        if not letter.isprintable()
    ]


def _is_dry_run(values: list[str], about: str) -> bool:
    if any(value != "All" for value in values):
        raise invalid("meta.k8s.io", about, "", [not_supported("dryRun", values, ("All",))])
    return bool(values)


def media_type(content_type: str) -> str:
    """The media type without its parameters; JSON if none is given."""
    return content_type.partition(";")[0].strip().lower() or JSON


def read_object(body: bytes, content_type: str) -> Any:
    """The JSON or YAML value of a body. Raises ApiError 400, 415."""
    kind = media_type(content_type)
    if kind == _PROTOBUF:
        raise unsupported_media_type([*_READABLE, f"not {kind}; {_INSTEAD}"])
    if kind not in _READABLE:
        raise unsupported_media_type(_READABLE)
    return read_yaml(body) if kind != JSON else read_json(body)


def read_json(body: bytes) -> Any:
    """The JSON value of a body. Raises ApiError 400."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _undecodable(error) from error


def duplicate_keys(body: bytes) -> tuple[str, ...]:
    """The paths of duplicate keys of a JSON body, in its order."""
    if not _has_duplicates(body):
        return ()
    found: list[str] = []
    _find_duplicates(json.loads(body, object_pairs_hook=_Pairs), "", found)
    return tuple(found)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its pairs, duplicates included."""


def _has_duplicates(body: bytes) -> bool:
    twice = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(body, object_pairs_hook=look)
    except ValueError:
        return False  # no JSON: YAML, or refused later in the decoder's words
    return twice


def _find_duplicates(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            below = f"{path}.{key}" if path else key
            if key in seen:
                found.append(below)
            seen.add(key)
            _find_duplicates(item, below, found)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _find_duplicates(item, f"{path}[{place}]", found)


def read_yaml(body: bytes) -> Any:
    """The YAML (or JSON) value of a body. Raises ApiError 400."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return yaml.load(body, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise _undecodable(error) from error


class _PlainLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a timestamp stays text."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _undecodable(error: Exception) -> ApiError:
    return bad_request(f"couldn't get version/kind; json parse error: {error}")
