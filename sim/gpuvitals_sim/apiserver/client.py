"""`ApiClient`: the verbs that every simulated component calls, whichever way the requests travel.

Place in the chain: `in_process.InProcessClient` calls the API in this process, `gpuvitals_sim.client.HttpClient` sends
requests to an embedded or a real API server.
"""

from http import HTTPStatus
from typing import Any, Protocol

from gpuvitals_sim.apiserver.errors import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.request import MERGE_PATCH, DeleteOptions

Objects = list[Obj]


class ApiClient(Protocol):
    """Verbs on kinds named `plural.group` (`resourceslices.resource.k8s.io`, `pods`). Thread safe.

    Every method raises ApiError with the server's code and reason, and KeyError for an unknown kind. Returned objects
    are copies that the caller may change. A cluster-scoped object has the namespace "".
    """

    def get(self, kind: str, name: str, namespace: str = "") -> Obj:
        """The object."""
        ...

    def list_with_version(
        self, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        """The objects that match both selectors, and the resourceVersion to watch from."""
        ...

    def create(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """The created object, or the Status of `binding` and `eviction`. `obj` holds namespace and name."""
        ...

    def update(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """The stored object; code 409 if the object's resourceVersion is not the newest."""
        ...

    def patch(
        self,
        kind: str,
        ref: tuple[str, str],
        patch: Any,
        *,
        patch_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Obj:
        """The stored object. `ref` is (namespace, name)."""
        ...

    def delete(
        self, kind: str, name: str, namespace: str = "", *, options: DeleteOptions | None = None
    ) -> None:
        """Requests the deletion; grace and finalizers may delay it."""
        ...

    def find(self, kind: str, name: str, namespace: str = "") -> Obj | None:
        """The object, or None if the server answers 404."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> Objects:
        """The objects that match both selectors."""
        return self.list_with_version(kind, namespace, labels=labels, fields=fields)[0]

    def update_status(self, kind: str, obj: Obj) -> Obj:
        """`update` on the status subresource."""
        return self.update(kind, obj, subresource="status")
