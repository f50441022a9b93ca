"""The requests of a claim, in one form for exact requests and prioritized lists.

Place in the chain: read from the claim's spec; the allocator works on it.
"""

from dataclasses import dataclass

from gpuvitals_sim.apiserver.json_types import Obj

MAX_RESULTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to satisfy a request. `name` is `req`, or `req/sub` in a prioritized list."""

    name: str
    short_name: str
    class_name: str
    selectors: tuple[str, ...]
    tolerations: tuple[Obj, ...]
    all_devices: bool
    count: int
    admin_access: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; its choices are tried in order, the first that fits is taken."""

    name: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A rule over the devices of some requests, of all if `requests` is empty; `same` or all different."""

    requests: frozenset[str]
    attribute: str
    same: bool

    def covers(self, choice: Choice) -> bool:
        """Whether devices of this choice count."""
        names = {choice.name, choice.name.split("/")[0]}
        return not self.requests or bool(names & self.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequests:
    """A claim that needs an allocation."""

    claim: Obj
    requests: tuple[Request, ...]
    constraints: tuple[Constraint, ...]

    @property
    def key(self) -> str:
        """`namespace/name`."""
        metadata = self.claim["metadata"]
        return f"{metadata['namespace']}/{metadata.get('name', '<extended-resources>')}"


def claim_requests(claim: Obj) -> ClaimRequests:
    """The requests of the claim."""
    devices = claim["spec"].get("devices") or {}
    return ClaimRequests(
        claim=claim,
        requests=tuple(_request(request) for request in devices.get("requests") or ()),
        constraints=tuple(_constraint(constraint) for constraint in devices.get("constraints") or ()),
    )


def _request(request: Obj) -> Request:
    name = request["name"]
    if request.get("firstAvailable"):
        choices = tuple(_choice(f"{name}/{part['name']}", part) for part in request["firstAvailable"])
    else:
        choices = (_choice(name, {**request["exactly"], "name": name}),)
    return Request(name=name, choices=choices)


def _choice(name: str, part: Obj) -> Choice:
    return Choice(
        name=name,
        short_name=part["name"],
        class_name=part.get("deviceClassName", ""),
        selectors=tuple(selector["cel"]["expression"] for selector in part.get("selectors") or ()),
        tolerations=tuple(part.get("tolerations") or ()),
        all_devices=part.get("allocationMode") == "All",
        count=int(part.get("count") or 1),
        admin_access=bool(part.get("adminAccess")),
    )


def _constraint(constraint: Obj) -> Constraint:
    same = "matchAttribute" in constraint
    return Constraint(
        requests=frozenset(constraint.get("requests") or ()),
        attribute=constraint["matchAttribute"] if same else constraint["distinctAttribute"],
        same=same,
    )
