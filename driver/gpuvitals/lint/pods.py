"""Rules about the claims that a pod or a pod template uses.

The linter applies them to every kind with a pod spec. A claim that is in none of the files may exist in the cluster, so
only a name that is similar to one in the files is reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gpuvitals.lint.documents import View
from gpuvitals.lint.findings import Finding
from gpuvitals.lint.requests import Context
from gpuvitals.lint.vocabulary import nearest

_TEMPLATES = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(
        ("Job", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"),
        ("spec", "template", "spec"),
    ),
}


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims and templates of all files: name to the names of their requests, by the field that refers to them."""

    by_field: dict[str, dict[str, frozenset[str]]]


def pod_spec(item: View) -> View | None:
    """The pod spec of an object, None for kinds without one."""
    path = _TEMPLATES.get(item.get("kind").text)
    return item.at(*path) if path is not None else None


def request_names(spec: View) -> frozenset[str]:
    """The names of a claim's requests."""
    return frozenset(request.get("name").text for request in spec.at("devices", "requests").items())


def pod_findings(spec: View, claims: Claims, context: Context) -> Iterator[Finding]:
    """Findings about the claims in a pod spec."""
    known = dict(_references(spec, claims))
    used = set()
    for reference in spec.get("resourceClaims").items():
        yield from _misspelled(reference, claims, context)
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind).items():
            for use in container.at("resources", "claims").items():
                used.add(use.get("name").text)
                yield from _use(use, known, context)
    for reference in spec.get("resourceClaims").items():
        name = reference.get("name")
        if name.text and name.text not in used:
            text = f"no container uses {name.text}, so none gets its devices; add it to resources.claims of a container"
            yield context.finding(name, "unused-claim", text)


def _references(spec: View, claims: Claims) -> Iterator[tuple[str, frozenset[str] | None]]:
    """Each claim of the pod with the names of its requests, None if no file has the claim."""
    for reference in spec.get("resourceClaims").items():
        found = None
        for field, named in claims.by_field.items():
            found = found or named.get(reference.get(field).text)
        yield reference.get("name").text, found


def _misspelled(reference: View, claims: Claims, context: Context) -> Iterator[Finding]:
    for field, named in claims.by_field.items():
        name = reference.get(field)
        if not name.text or name.text in named:
            continue
        other = next((one for one, names in claims.by_field.items() if name.text in names), None)
        near = nearest(name.text, named)
        if other is not None:
            yield context.finding(
                name, "reference", f"{name.text} is a name for {other}; write {other}: {name.text}"
            )
        elif near is not None:
            yield context.finding(name, "reference", f"{name.text} does not exist; did you mean {near}?")


def _use(use: View, known: dict[str, frozenset[str] | None], context: Context) -> Iterator[Finding]:
    name, request = use.get("name"), use.get("request")
    if name.text not in known:
        near = nearest(name.text, known)
        instead = f"did you mean {near}?" if near else "add it to the pod's resourceClaims"
        yield context.finding(name, "reference", f"the pod has no claim {name.text}; {instead}")
        return
    requests = known[name.text]
    if request.text and requests is not None and request.text.split("/")[0] not in requests:
        text = f"claim {name.text} has no request {request.text}; it has {', '.join(sorted(requests))}"
        yield context.finding(request, "reference", text)
