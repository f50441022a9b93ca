"""The garbage collector: deletes objects whose owners are deleted.

Place in the chain: slices are deleted with their node, generated claims with their pod, pods with their job. Handles the
finalizers of `kubectl delete --cascade=foreground|orphan` as well.
Source: kubernetes/kubernetes pkg/controller/garbagecollector.
"""

from collections.abc import Iterable

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.strategy.metadata import FOREGROUND, ORPHAN

Held = tuple[str, Obj]
"""A kind's store id and one of its objects."""


class GarbageCollector:
    """Level-triggered: every pass reads every owner reference."""

    kinds: frozenset[str] = frozenset()

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Deletes orphans, and finishes deletions that wait for their dependents."""
        everything = [(kind, item) for kind, items in self._client.peek_all().items() for item in items]
        owners = {item["metadata"]["uid"]: item for _, item in everything}
        owned = [(kind, item) for kind, item in everything if item["metadata"].get("ownerReferences")]
        for kind, item in owned:
            self._collect(kind, item, owners)
        for kind, item in everything:
            metadata = item["metadata"]
            finalizers = metadata.get("finalizers") or ()
            if "deletionTimestamp" in metadata and (ORPHAN in finalizers or FOREGROUND in finalizers):
                self._finish(kind, item, owned)
        return None

    def _collect(self, kind: str, item: Obj, owners: dict[str, Obj]) -> None:
        metadata = item["metadata"]
        references = metadata["ownerReferences"]
        solid = [reference for reference in references if self._is_solid(reference, owners)]
        if solid or "deletionTimestamp" in metadata:
            return
        options = DeleteOptions(uid=metadata["uid"], propagation="Background")
        self._client.delete(kind, metadata["name"], metadata.get("namespace", ""), options=options)

    def _is_solid(self, reference: Obj, owners: dict[str, Obj]) -> bool:
        """Whether the owner exists; an owner of a kind that is not served counts as existing."""
        if not self._client.serves_kind(reference.get("apiVersion", ""), reference.get("kind", "")):
            return True
        owner = owners.get(reference.get("uid", ""))
        if owner is None:
            return False
        going = "deletionTimestamp" in owner["metadata"]
        return not (going and FOREGROUND in (owner["metadata"].get("finalizers") or ()))

    def _finish(self, kind: str, item: Obj, owned: Iterable[Held]) -> None:
        """Releases the dependents of an orphaning deletion; finishes a foreground deletion without dependents."""
        metadata = item["metadata"]
        dependents = [(held, child) for held, child in owned if _owns(item, child)]
        done = FOREGROUND
        if ORPHAN in metadata["finalizers"]:
            for held, child in dependents:
                self._disown(held, child, metadata["uid"])
            done = ORPHAN
        elif any(_blocks(item, child) for _, child in dependents):
            return
        finalizers = [name for name in metadata["finalizers"] if name != done]
        patch = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": finalizers or None}
        }
        self._client.patch(kind, (metadata.get("namespace", ""), metadata["name"]), patch)

    def _disown(self, kind: str, child: Obj, uid: str) -> None:
        metadata = child["metadata"]
        left = [reference for reference in metadata["ownerReferences"] if reference["uid"] != uid]
        patch = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "ownerReferences": left or None}
        }
        self._client.patch(kind, (metadata.get("namespace", ""), metadata["name"]), patch)


def _owns(owner: Obj, child: Obj) -> bool:
    return any(
        reference["uid"] == owner["metadata"]["uid"] for reference in child["metadata"]["ownerReferences"]
    )


def _blocks(owner: Obj, child: Obj) -> bool:
    uid = owner["metadata"]["uid"]
    return any(
        reference["uid"] == uid and reference.get("blockOwnerDeletion")
        for reference in child["metadata"]["ownerReferences"]
    )
