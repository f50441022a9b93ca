"""Lints all files together, so that an object can refer to a class or a claim in another file.

The verb `gpuvitals lint` passes the texts and prints the findings.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gpuvitals.inventory.naming import Naming
from gpuvitals.lint.classes import class_drivers, class_findings
from gpuvitals.lint.documents import View, documents
from gpuvitals.lint.findings import BadInput, Finding
from gpuvitals.lint.pods import Claims, pod_findings, pod_spec, request_names
from gpuvitals.lint.requests import Context, claim_findings
from gpuvitals.lint.vocabulary import Vocabulary

_GROUP = "resource.k8s.io/"
_CLAIM_FIELDS = {
    "ResourceClaim": "resourceClaimName",
    "ResourceClaimTemplate": "resourceClaimTemplateName",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LintSettings:
    """The names of the installation, and further DeviceClasses that select only gpuvitals devices."""

    naming: Naming = field(default_factory=Naming)
    classes: tuple[str, ...] = ()


class FileError(ValueError):
    """A file can't be read. The message names the file and, if known, the line."""


def lint(texts: Mapping[str, str], settings: LintSettings) -> list[Finding]:
    """The findings of the files, given as name to text, sorted by file and line. Raises FileError."""
    objects = {name: list(_objects(name, text)) for name, text in texts.items()}
    everything = [item for items in objects.values() for item in items]
    vocabulary = Vocabulary(settings.naming)
    classes = {name: frozenset({settings.naming.driver}) for name in settings.classes}
    classes |= dict(class_drivers(item) for item in everything if _is(item, "DeviceClass"))
    claims = _claims(everything)
    found: list[Finding] = []
    for name, items in objects.items():
        context = Context(file=name, vocabulary=vocabulary, classes=classes)
        found += sorted({one for item in items for one in _findings(item, claims, context)})
    return found


def _objects(name: str, text: str) -> Iterator[View]:
    try:
        for document in documents(text):
            yield from _unpacked(document)
    except BadInput as error:
        where = f"{name}:{error.line}" if error.line else name
        raise FileError(f"{where}: {error}") from error


def _unpacked(item: View) -> Iterator[View]:
    if not item.get("kind").text or not item.get("apiVersion").text:
        raise BadInput("expected a Kubernetes object with apiVersion and kind", item.line)
    if item.get("kind").text != "List":
        yield item
        return
    yield from item.get("items").items()


def _is(item: View, kind: str) -> bool:
    return item.get("kind").text == kind and item.get("apiVersion").text.startswith(_GROUP)


def _claim_spec(item: View) -> View | None:
    if _is(item, "ResourceClaim"):
        return item.get("spec")
    return item.at("spec", "spec") if _is(item, "ResourceClaimTemplate") else None


def _claims(items: Iterable[View]) -> Claims:
    by_field: dict[str, dict[str, frozenset[str]]] = {field: {} for field in _CLAIM_FIELDS.values()}
    for item in items:
        spec = _claim_spec(item)
        if spec is not None:
            named = by_field[_CLAIM_FIELDS[item.get("kind").text]]
            named[item.at("metadata", "name").text] = request_names(spec)
    return Claims(by_field)


def _findings(item: View, claims: Claims, context: Context) -> Iterator[Finding]:
    spec = _claim_spec(item)
    if spec is not None:
        yield from claim_findings(spec, context)
    elif _is(item, "DeviceClass"):
        yield from class_findings(item, context)
    else:
        pod = pod_spec(item)
        if pod is not None:
            yield from pod_findings(pod, claims, context)
