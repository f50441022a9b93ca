"""Lists ResourceSlices for the command line, page by page, since one answer cannot hold those of a large cluster."""

from collections.abc import Iterator

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.errors import Permanent
from gpuvitals.kube.slices.codec import PATH
from gpuvitals.kube.slices.view import PublishedView, published_view
from gpuvitals.kube.transport import Call, Transport

_PAGE = 500
_PAGE_SECONDS = 30.0


class _Metadata(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _Metadata


_CONTINUE = msgspec.json.Decoder(_Page)


def published(transport: Transport, *, driver: str = "", node: str = "") -> PublishedView:
    """The published devices and nodes, limited to one driver and one node if given. Raises ApiError."""
    try:
        return published_view(slice_pages(transport, driver=driver, node=node))
    except msgspec.DecodeError as error:
        raise Permanent(f"the list of ResourceSlices cannot be read: {error}") from error


def slice_pages(transport: Transport, *, driver: str = "", node: str = "") -> Iterator[bytes]:
    """The pages of the list, limited to one driver and one node if given. Raises ApiError and msgspec.DecodeError."""
    fields = [f"spec.{field}={value}" for field, value in (("driver", driver), ("nodeName", node)) if value]
    query = [("limit", str(_PAGE)), *([("fieldSelector", ",".join(fields))] if fields else [])]
    token = ""
    while True:
        page_query = tuple([*query, ("continue", token)] if token else query)
        page = transport.request(
            Call(method="GET", path=PATH, query=page_query, deadline_seconds=_PAGE_SECONDS)
        )
        yield page
        token = decoded(_CONTINUE, page).metadata.continue_
        if not token:
            return
