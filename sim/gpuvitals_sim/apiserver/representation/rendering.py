"""Content negotiation: the full object, a Table, or only the metadata.

Place in the chain: between the verbs' answers and the bytes on the wire.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpuvitals_sim.apiserver.errors import not_acceptable
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.representation.tables import partial, table

_JSON_TYPES = ("application/json", "application/*", "*/*")
_FORMS: dict[str, Literal["object", "table", "partial"]] = {
    "": "object",
    "Table": "table",
    "PartialObjectMetadata": "partial",
    "PartialObjectMetadataList": "partial",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """One representation of a kind's objects."""

    kind: Kind
    form: Literal["object", "table", "partial"]
    include_object: str = "Metadata"
    content_type: str = "application/json"

    def body(self, obj: Obj) -> Obj:
        """An object or list in this form."""
        if self.form == "object":
            return obj
        is_list = obj.get("kind") == self.kind.list_kind and "items" in obj
        items = obj["items"] if is_list else [obj]
        if self.form == "table":
            version = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            shown = (
                {key: value for key, value in obj["metadata"].items() if value != ""} if is_list else version
            )
            return table(self.kind, items, shown, self.include_object)
        if not is_list:
            return partial(obj)
        rows = [partial(item) for item in items]
        head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return {**head, "metadata": obj["metadata"], "items": rows}

    def events(self) -> Callable[[Obj], Obj]:
        """A function that converts the events of one watch; only the first Table has the columns."""
        sent = False

        def translate(event: Obj) -> Obj:
            nonlocal sent
            if self.form == "object" or event["type"] == "ERROR":
                return event
            obj = event["object"]
            if self.form == "partial":
                return {"type": event["type"], "object": partial(obj)}
            version = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            items = [] if event["type"] == "BOOKMARK" else [obj]
            shown = table(self.kind, items, version, self.include_object, header=not sent)
            sent = True
            return {"type": event["type"], "object": shown}

        return translate


def renderer_for(accept: str, kind: Kind, include_object: str) -> Renderer:
    """The first representation of an Accept header that this server supports. Raises ApiError 406."""
    for clause in accept.split(","):
        media, *settings = (part.strip() for part in clause.split(";"))
        values = dict(setting.partition("=")[::2] for setting in settings)
        form = _FORMS.get(values.get("as", ""))
        known = form == "object" or (values.get("v") == "v1" and values.get("g") == "meta.k8s.io")
        if media in _JSON_TYPES and form is not None and known:
            return Renderer(kind=kind, form=form, include_object=include_object or "Metadata")
    raise not_acceptable("application/json")
