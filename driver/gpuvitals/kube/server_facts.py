"""Facts about an API server: its version, its DRA API versions, the caller's rights, and other drivers on a node."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.other_drivers import OtherDriverDevice, OtherDrivers
from gpuvitals.kube.errors import NotFound, Retryable
from gpuvitals.kube.nodes import node_allocatable
from gpuvitals.kube.other_drivers import other_driver_devices
from gpuvitals.kube.slices.codec import PATH as SLICES
from gpuvitals.kube.slices.list import slice_pages
from gpuvitals.kube.transport import Call, Transport

_T = TypeVar("_T")

_SLICE_VERBS = ("list", "watch", "create", "update", "delete")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One permission. `name` "" means any object; the agent also works without an `optional` right."""

    verb: str
    group: str
    resource: str
    name: str = ""
    optional: bool = False

    def __str__(self) -> str:
        """Verb and resource: `patch resourceclaims/status.resource.k8s.io`."""
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"


class _Version(msgspec.Struct, rename="camel"):
    git_version: str


class _Served(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    versions: list[_Served]


class _Page(msgspec.Struct):
    items: list[msgspec.Raw] = []


class _ReviewStatus(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _ReviewStatus


_VERSION = msgspec.json.Decoder(_Version)
_GROUP = msgspec.json.Decoder(_Group)
_PAGE = msgspec.json.Decoder(_Page)
_REVIEW = msgspec.json.Decoder(_Review)
_encoder = msgspec.json.Encoder()


def agent_rights(driver: str, group: str, *, claim_status_verbs: bool) -> tuple[Right, ...]:
    """The rights of the agent's account, as the chart grants them. `claim_status_verbs`: see `versions`."""
    dra = "resource.k8s.io"
    rights = [Right(verb=verb, group=dra, resource="resourceslices") for verb in _SLICE_VERBS]
    rights += [
        Right(verb="get", group=dra, resource="resourceclaims"),
        Right(verb="patch", group=dra, resource="resourceclaims/status"),
        Right(verb="get", group="", resource="nodes"),
        Right(verb="list", group="", resource="nodes", optional=True),
        Right(verb="watch", group="", resource="nodes", optional=True),
        Right(verb="list", group=group, resource="gpuhealthpolicies"),
        Right(verb="watch", group=group, resource="gpuhealthpolicies"),
        Right(verb="create", group="events.k8s.io", resource="events"),
    ]
    if claim_status_verbs:
        rights.append(
            Right(verb="associated-node:patch", group=dra, resource="resourceclaims/driver", name=driver)
        )
    return tuple(rights)


def git_version(transport: Transport) -> str:
    """`v1.37.2`. Raises ApiError."""
    return _read(transport, "/version", _VERSION).git_version


def resource_versions(transport: Transport) -> tuple[str, ...]:
    """The served versions of resource.k8s.io, the preferred first; empty on a server without DRA. Raises ApiError."""
    try:
        return tuple(each.version for each in _read(transport, "/apis/resource.k8s.io", _GROUP).versions)
    except NotFound:
        return ()


def other_drivers_now(transport: Transport, driver: str, node: str) -> OtherDrivers:
    """The devices that drivers other than `driver` publish for a node, and its allocatable resources. Raises ApiError."""
    devices: list[OtherDriverDevice] = []
    for page in slice_pages(transport, node=node):
        for raw in _decoded(_PAGE, page, SLICES).items:
            try:
                devices += (each for each in other_driver_devices(raw) if each.driver != driver)
            except msgspec.DecodeError as error:
                raise Retryable(f"{SLICES}: {error}") from error
    return OtherDrivers(devices=tuple(devices), resources=node_allocatable(transport, node))


def denied(transport: Transport, rights: Iterable[Right]) -> Iterator[Right]:
    """The rights that the caller lacks. Raises ApiError."""
    for right in rights:
        resource, _, subresource = right.resource.partition("/")
        attributes = {
            "verb": right.verb,
            "group": right.group,
            "resource": resource,
            "subresource": subresource,
            "name": right.name,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = transport.request(Call(method="POST", path=_REVIEWS, body=_encoder.encode(body)))
        if not _decoded(_REVIEW, answer, _REVIEWS).status.allowed:
            yield right


def _read(transport: Transport, path: str, decoder: msgspec.json.Decoder[_T]) -> _T:
    return _decoded(decoder, transport.request(Call(method="GET", path=path)), path)


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes, path: str) -> _T:
    try:
        return decoded(decoder, body)
    except msgspec.DecodeError as error:
        raise Retryable(f"{path}: {error}") from error
