"""Prepares and unprepares the claims of a pod: one call per driver with all of the pod's claims.

Place in the chain: pod workers call it, it calls the favourite plugins. Messages are the real kubelet's.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/manager.go; observed on 1.37.2.
"""

from collections.abc import Iterable, Mapping

from gpuvitals_sim.apiserver import ApiClient, ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.kubelet.claim_cache import ClaimInfo, ClaimInfoCache, OldClaim
from gpuvitals_sim.kubelet.plugin import Answer, CallFailed, ClaimRef
from gpuvitals_sim.kubelet.plugin_manager import NotRegistered, PluginManager

CLAIMS = "resourceclaims.resource.k8s.io"
_EXTENDED = "extended resources"
"""The key of the claim that the scheduler created for extended resources; it is no DNS label, as names in a pod are."""


class PrepareFailed(Exception):
    """The pod can't start yet; the message goes into its event."""


class UnprepareFailed(Exception):
    """The pod can't end yet; the real kubelet only logs the message."""


def pod_claims(pod: Obj) -> dict[str, str]:
    """Names of the pod's claims by the names in its spec, without those that are not needed.

    Raises PrepareFailed if a claim is not generated yet.
    """
    generated = {
        entry["name"]: entry.get("resourceClaimName")
        for entry in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    }
    found = {}
    special = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    if special:
        found[_EXTENDED] = special["resourceClaimName"]
    for reference in pod["spec"].get("resourceClaims") or ():
        name = reference["name"]
        if reference.get("resourceClaimName"):
            found[name] = reference["resourceClaimName"]
        elif name not in generated:
            raise PrepareFailed(
                f"prepare dynamic resources: ResourceClaim not created yet for pod {pod['metadata']['name']}"
            )
        elif generated[name]:
            found[name] = generated[name]
    return found


def container_uses(pod: Obj, container: Obj) -> list[tuple[str, str]]:
    """The container's claims by their names in the pod's spec, each with a request; an empty request means all."""
    uses = (container.get("resources") or {}).get("claims") or ()
    special = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    return [(used["name"], used.get("request", "")) for used in uses] + [
        (_EXTENDED, mapping["requestName"])
        for mapping in special.get("requestMappings") or ()
        if mapping["containerName"] == container["name"]
    ]


class Preparer:
    """Thread safe; pods are prepared in parallel."""

    def __init__(self, client: ApiClient, claims: ClaimInfoCache, plugins: PluginManager) -> None:
        self._client = client
        self._claims = claims
        self._plugins = plugins

    def prepare(self, pod: Obj) -> None:
        """Returns when every driver has prepared every claim of the pod. Raises PrepareFailed."""
        try:
            batches, joined = self._batches(pod)
            for driver, refs in batches.items():
                self._prepare_with(driver, refs)
        except (NotRegistered, OldClaim, CallFailed) as error:
            raise PrepareFailed(f"prepare dynamic resources: {error}") from error
        self._claims.set_prepared(joined)

    def unprepare(self, pod_uid: str) -> None:
        """Returns when every claim that only this pod used is unprepared. Raises UnprepareFailed."""
        batches: dict[str, list[ClaimInfo]] = {}
        leaving = [self._claims.leave(_key(info), pod_uid) for info in self._claims.of_pod(pod_uid)]
        last = [info for info in leaving if info is not None]
        for info in last:
            for driver in info.drivers:
                batches.setdefault(driver, []).append(info)
        for driver, infos in batches.items():
            self._unprepare_with(driver, [info.ref for info in infos])
        for info in last:
            self._claims.drop(info)

    def _batches(self, pod: Obj) -> tuple[dict[str, list[ClaimRef]], list[ClaimRef]]:
        """The claims to prepare, by driver, and all claims that are prepared afterwards."""
        batches: dict[str, list[ClaimRef]] = {}
        joined: list[ClaimRef] = []
        for name in pod_claims(pod).values():
            claim = self._allocated_claim(pod, name)
            ref = ClaimRef(namespace=pod["metadata"]["namespace"], name=name, uid=claim["metadata"]["uid"])
            info = self._claims.join(ref, _drivers(claim), pod["metadata"]["uid"])
            if info.prepared:
                continue
            joined.append(ref)
            for driver in info.drivers:
                batches.setdefault(driver, []).append(ref)
        return batches, joined

    def _allocated_claim(self, pod: Obj, name: str) -> Obj:
        try:
            claim = self._client.get(CLAIMS, name, pod["metadata"]["namespace"])
        except ApiError as error:
            raise PrepareFailed(
                f"prepare dynamic resources: fetch ResourceClaim {name}: {error.message}"
            ) from error
        status = claim.get("status") or {}
        uid = pod["metadata"]["uid"]
        if not any(entry["uid"] == uid for entry in status.get("reservedFor") or ()):
            raise PrepareFailed(
                f"prepare dynamic resources: pod {pod['metadata']['name']} is not allowed to use ResourceClaim {name}"
            )
        if not status.get("allocation"):
            raise PrepareFailed(f"prepare dynamic resources: ResourceClaim {name} is not allocated")
        return claim

    def _prepare_with(self, driver: str, refs: list[ClaimRef]) -> None:
        plugin = self._plugins.favourite(driver)
        try:
            answers = plugin.prepare(refs)
        except CallFailed as error:
            raise CallFailed(f"NodePrepareResources: {error}") from error
        _check("NodePrepareResources", refs, answers)
        for ref in refs:
            self._claims.set_devices(ref, driver, answers[ref.uid].devices)

    def _unprepare_with(self, driver: str, refs: list[ClaimRef]) -> None:
        try:
            answers = self._plugins.favourite(driver).unprepare(refs)
            _check("NodeUnprepareResources", refs, answers)
        except (NotRegistered, CallFailed) as error:
            raise UnprepareFailed(f"unprepare dynamic resources: {error}") from error


def _check(method: str, refs: list[ClaimRef], answers: Mapping[str, Answer]) -> None:
    """Raises CallFailed for an error of a claim, an unknown claim, or a claim without an answer."""
    by_uid = {ref.uid: ref for ref in refs}
    for uid, answer in answers.items():
        if uid not in by_uid:
            raise CallFailed(f"{method} returned result for unknown claim UID {uid}")
        if answer.error:
            raise CallFailed(f"{method} failed for ResourceClaim {by_uid[uid].name}: {answer.error}")
    skipped = len(by_uid) - len(answers)
    if skipped:
        raise CallFailed(f"{method} skipped {skipped} ResourceClaims")


def _drivers(claim: Obj) -> Iterable[str]:
    devices = claim["status"]["allocation"].get("devices") or {}
    return dict.fromkeys(result["driver"] for result in devices.get("results") or ())


def _key(info: ClaimInfo) -> tuple[str, str]:
    return info.ref.namespace, info.ref.name
