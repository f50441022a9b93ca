"""Lists ResourceSlices for a person's verb, page by page: a large cluster's list does not come in one answer."""

from collections.abc import Iterator

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.slices.codec import PATH
from gpuvitals.kube.transport import Call, Transport

_PAGE = 500
_PAGE_SECONDS = 30.0


class _Metadata(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _Metadata


_CONTINUE = msgspec.json.Decoder(_Page)


def slice_pages(transport: Transport, *, driver: str = "", node: str = "") -> Iterator[bytes]:
    """The pages of the list, of one driver and one node where they are named. Raises ApiError, msgspec.DecodeError."""
    fields = [f"spec.{field}={value}" for field, value in (("driver", driver), ("nodeName", node)) if value]
    query = [("limit", str(_PAGE)), *([("fieldSelector", ",".join(fields))] if fields else [])]
    more = ""
    while True:
        asked = tuple([*query, ("continue", more)] if more else query)
        page = transport.request(Call(method="GET", path=PATH, query=asked, deadline_seconds=_PAGE_SECONDS))
        yield page
        more = decoded(_CONTINUE, page).metadata.continue_
        if not more:
            return
