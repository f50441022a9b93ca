"""Namespaces that are to go: their content first, then they.

Place in the chain: a deleted namespace waits for its finalizer, which is taken away here.
Source: kubernetes/kubernetes pkg/controller/namespace.
"""

from gpuvitals_sim.apiserver import ApiClient, DeleteOptions
from gpuvitals_sim.apiserver.json_types import Obj


class NamespaceController:
    """Level-triggered: every pass empties what is Terminating."""

    kinds: frozenset[str] = frozenset()

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Delete the content of terminating namespaces, and finalize the empty ones."""
        for namespace in self._client.peek("namespaces"):
            if "deletionTimestamp" in namespace["metadata"] and namespace["spec"].get("finalizers"):
                self._empty(namespace)
        return None

    def _empty(self, namespace: Obj) -> None:
        name = namespace["metadata"]["name"]
        left = 0
        for kind in self._client.kinds(namespaced=True):
            for item in self._client.peek(kind, name):
                gone = "deletionTimestamp" not in item["metadata"] and self._client.delete(
                    kind, item["metadata"]["name"], name, options=DeleteOptions(propagation="Background")
                )
                left += not gone
        if not left:
            body = {**namespace, "spec": {"finalizers": []}}
            self._client.update("namespaces", body, subresource="finalize")
