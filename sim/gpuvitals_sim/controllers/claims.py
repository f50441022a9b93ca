"""ResourceClaims of pods: generated from templates, released and deallocated when no pod uses them.

Place in the chain: creates the claims that the scheduler needs for pods with a template, and frees their devices after
the end of the pod.
Source: kubernetes/kubernetes pkg/controller/resourceclaim/controller.go.
"""

from gpuvitals_sim.apiserver import InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH
from gpuvitals_sim.client import EventRecord, record_event
from gpuvitals_sim.controllers.pods import is_done

CLAIMS = "resourceclaims.resource.k8s.io"
TEMPLATES = "resourceclaimtemplates.resource.k8s.io"
FINALIZER = "resource.kubernetes.io/delete-protection"
POD_CLAIM_ANNOTATION = "resource.kubernetes.io/pod-claim-name"

_BASE_LENGTH = 57


class ClaimController:
    """Level-triggered: every pass reads all pods and claims."""

    kinds = frozenset(("pods", CLAIMS, TEMPLATES))

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Generates missing claims, then releases those that no pod uses."""
        claims = self._client.peek(
            CLAIMS
        )  # read before the pods, so that the consumer of every reservation is among the pods
        pods = {pod["metadata"]["uid"]: pod for pod in self._client.peek("pods")}
        for pod in pods.values():
            if (
                pod["spec"].get("resourceClaims")
                and not is_done(pod)
                and "deletionTimestamp" not in pod["metadata"]
            ):
                self._generate(pod)
        for claim in claims:
            self._release(claim, pods)
        return None

    def _generate(self, pod: Obj) -> None:
        known = {entry["name"] for entry in dig(pod, "status", "resourceClaimStatuses") or ()}
        made = []
        for reference in pod["spec"]["resourceClaims"]:
            template = reference.get("resourceClaimTemplateName")
            if not template or reference["name"] in known:
                continue
            claim = self._existing(pod, reference["name"]) or self._create(pod, reference["name"], template)
            if claim is not None:
                made.append({"name": reference["name"], "resourceClaimName": claim["metadata"]["name"]})
        if made:
            metadata = pod["metadata"]
            patch = {"metadata": {"uid": metadata["uid"]}, "status": {"resourceClaimStatuses": made}}
            where = metadata["namespace"], metadata["name"]
            self._client.patch("pods", where, patch, patch_type=STRATEGIC_PATCH, subresource="status")

    def _existing(self, pod: Obj, reference: str) -> Obj | None:
        """The claim that an earlier pass generated and could not write into the pod's status, or None."""
        for claim in self._client.peek(CLAIMS, pod["metadata"]["namespace"]):
            annotations = claim["metadata"].get("annotations") or {}
            if annotations.get(POD_CLAIM_ANNOTATION) == reference and _owner(claim) == pod["metadata"]["uid"]:
                return claim
        return None

    def _create(self, pod: Obj, reference: str, template_name: str) -> Obj | None:
        metadata = pod["metadata"]
        template = self._client.find(TEMPLATES, template_name, metadata["namespace"])
        if template is None:
            missing = f'resourceclaimtemplate.resource.k8s.io "{template_name}" not found'
            message = f'PodResourceClaim {reference}: resource claim template "{template_name}": {missing}'
            failed = EventRecord(
                reason="FailedResourceClaimCreation",
                message=message,
                component="resource_claim",
                warning=True,
            )
            record_event(self._client, pod, failed, once=True)
            return None
        wanted = template["spec"].get("metadata") or {}
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        claim: Obj = {
            "metadata": {
                "generateName": _base_name(metadata["name"], reference),
                "namespace": metadata["namespace"],
                "ownerReferences": [{**owner, "controller": True}],
                "annotations": {**(wanted.get("annotations") or {}), POD_CLAIM_ANNOTATION: reference},
            },
            "spec": template["spec"]["spec"],
        }
        if wanted.get("labels"):
            claim["metadata"]["labels"] = wanted["labels"]
        return self._client.create(CLAIMS, claim)

    def _release(self, claim: Obj, pods: dict[str, Obj]) -> None:
        reserved = dig(claim, "status", "reservedFor") or []
        remaining = [entry for entry in reserved if not _is_pod(entry) or _still_uses(pods.get(entry["uid"]))]
        held = FINALIZER in (claim["metadata"].get("finalizers") or ())
        if len(remaining) < len(reserved):
            claim = self._with_consumers(claim, remaining, deallocate=held and not remaining)
        elif held and "deletionTimestamp" in claim["metadata"] and not remaining:
            claim = self._with_consumers(claim, remaining, deallocate=True)
        if not remaining:
            self._delete_generated(claim, pods)

    def _with_consumers(self, claim: Obj, remaining: list[Obj], *, deallocate: bool) -> Obj:
        new = clone(claim)
        new["status"]["reservedFor"] = remaining
        if not remaining:
            del new["status"]["reservedFor"]
        if deallocate:
            new["status"].pop("allocation", None)
        new = self._client.update_status(CLAIMS, new)
        finalizers = new["metadata"].get("finalizers") or []
        if FINALIZER in finalizers and dig(new, "status", "allocation") is None:
            new["metadata"]["finalizers"] = [name for name in finalizers if name != FINALIZER]
            new = self._client.update(CLAIMS, new)
        return new

    def _delete_generated(self, claim: Obj, pods: dict[str, Obj]) -> None:
        """Deletes the generated claim of a finished pod; the garbage collector deletes those of deleted pods."""
        owner, metadata = _owner(claim), claim["metadata"]
        if owner and owner in pods and is_done(pods[owner]) and "deletionTimestamp" not in metadata:
            self._client.delete(CLAIMS, metadata["name"], metadata["namespace"])


def _owner(claim: Obj) -> str:
    for reference in claim["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == "Pod":
            return str(reference["uid"])
    return ""


def _is_pod(consumer: Obj) -> bool:
    return consumer.get("resource") == "pods" and not consumer.get("apiGroup")


def _still_uses(pod: Obj | None) -> bool:
    return pod is not None and not is_done(pod)


def _base_name(pod: str, reference: str) -> str:
    base = f"{pod}-{reference}-"
    if len(base) <= _BASE_LENGTH:
        return base
    share = _BASE_LENGTH / len(base)
    return f"{pod[: int(len(pod) * share)]}-{reference[: int(len(reference) * share)]}"
