"""Deletes the content of terminating namespaces, then finalizes them.

Place in the chain: a deleted namespace waits for its finalizer, which is removed here.
Source: kubernetes/kubernetes pkg/controller/namespace.
"""

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj


class NamespaceController:
    """Level-triggered: every pass empties the namespaces that are Terminating."""

    kinds: frozenset[str] = frozenset()

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Deletes the content of terminating namespaces, and finalizes the empty ones."""
        for namespace in self._client.peek("namespaces"):
            if "deletionTimestamp" in namespace["metadata"] and namespace["spec"].get("finalizers"):
                self._empty(namespace)
        return None

    def _empty(self, namespace: Obj) -> None:
        name = namespace["metadata"]["name"]
        background = DeleteOptions(propagation="Background")
        for kind in self._client.kinds(namespaced=True):
            for item in self._client.peek(kind, name):
                if "deletionTimestamp" not in item["metadata"]:
                    self._client.delete(kind, item["metadata"]["name"], name, options=background)
        if not any(self._client.peek(kind, name) for kind in self._client.kinds(namespaced=True)):
            body = {**namespace, "spec": {"finalizers": []}}
            self._client.update("namespaces", body, subresource="finalize")
