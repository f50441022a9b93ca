"""Authentication and authorization of callers, optional, so that tests can restrict a client.

Place in the chain: the HTTP side checks every request before dispatch. Without tokens all requests are allowed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gpuvitals_sim.apiserver.errors import ApiError, forbidden, unauthorized
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.request_log import RequestFacts

ANONYMOUS = "system:anonymous"
OWN_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""The path of reviews of a caller's own rights, which every user may create."""


_ATTRIBUTES = ("verb", "group", "resource", "subresource", "namespace", "name")


def allow_all(_: RequestFacts) -> bool:
    """The rule of a server without restrictions."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Bearer tokens and their users, and the rule that allows or refuses a user's request.

    If there are tokens, a request without a known one is answered 401. `allows` gets the request with its user.
    """

    tokens: Mapping[str, str] = field(default_factory=dict)
    allows: Callable[[RequestFacts], bool] = allow_all

    def user_of(self, authorization: str) -> str:
        """The user of an Authorization header. Raises ApiError 401."""
        if not self.tokens:
            return ANONYMOUS
        user = self.tokens.get(authorization.removeprefix("Bearer ").strip())
        if user is None:
            raise unauthorized()
        return user

    def check(self, request: RequestFacts) -> None:
        """Raises ApiError 403 if the rule refuses the request."""
        if request.path != OWN_REVIEWS and not self.allows(request):
            raise _refused(request)

    def reviewed(self, request: RequestFacts, review: Obj) -> Obj:
        """A SelfSubjectAccessReview with its status."""
        wanted = dig(review, "spec", "resourceAttributes")
        attributes = wanted if isinstance(wanted, dict) else {}
        verb, group, resource, subresource, namespace, name = (
            str(attributes.get(key, "")) for key in _ATTRIBUTES
        )
        reviewed = RequestFacts(
            method="",
            path="",
            user=request.user,
            verb=verb,
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
        )
        return {**review, "status": {"allowed": self.allows(reviewed)}}


def _refused(request: RequestFacts) -> ApiError:
    if not request.resource:
        text = f'forbidden: User "{request.user}" cannot {request.method.lower()} path "{request.path}"'
        return ApiError(403, "Forbidden", text, {})
    resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
    scope = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
    why = f'User "{request.user}" cannot {request.verb} resource "{resource}" in API group "{request.group}" {scope}'
    return forbidden(request.group, request.resource, request.name, why)
