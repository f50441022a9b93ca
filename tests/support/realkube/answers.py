"""The server of a contract case, and readers of its answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from support.raw_api import Answer, Json, RawApi


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server under contract; `forget` makes it lose its history, so that every older version is expired."""

    name: str
    api: RawApi
    forget: Callable[[], None]


def refusal(answer: Answer) -> tuple[int, str]:
    """Code and reason of a Status answer."""
    assert answer.body["kind"] == "Status", answer.body
    return answer.status, str(answer.body.get("reason", ""))


def causes(answer: Answer) -> list[str]:
    """The field errors of a 422, as `field: message`, in the server's order."""
    assert refusal(answer) == (422, "Invalid"), answer.body
    return [f"{cause['field']}: {cause['message']}" for cause in answer.body["details"]["causes"]]


def names(answer: Answer) -> list[str]:
    """The names of a list's items, in the server's order."""
    assert answer.status == 200, answer.body
    return [str(item["metadata"]["name"]) for item in answer.body["items"]]


def stored(answer: Answer) -> Json:
    """The object of an answer that must be a success."""
    assert answer.status in (200, 201), answer.body
    return answer.body


def owners(answer: Answer) -> list[tuple[str, str, str]]:
    """(manager, operation, subresource) of each entry of managedFields, sorted."""
    entries = stored(answer)["metadata"].get("managedFields", [])
    return sorted((each["manager"], each["operation"], each.get("subresource", "")) for each in entries)


def warnings(answer: Answer) -> list[str]:
    """The texts of the Warning headers, quotes in them escaped as they came."""
    return re.findall(r'299 - "((?:[^"\\]|\\.)*)"', answer.headers.get("warning", ""))
