"""Extended resources served by a DeviceClass: the class of each resource, and the claim that the scheduler creates.

Place in the chain: the decision calls it per node; the binder creates the claim.
Source: kubernetes/kubernetes pkg/scheduler/framework/plugins/dynamicresources/extendeddynamicresources.go, noderesources/fit.go.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.cel.quantity import parse_quantity

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
_BY_CLASS = "deviceclass.resource.kubernetes.io/"
_NATIVE = ("kubernetes.io/", "requests.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedResourceClaim:
    """A claim that is not created yet, and the mapping of containers' resources to its requests."""

    claim: Obj
    mappings: tuple[Obj, ...]


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource of which the node has too little; `is_hopeless` if even the empty node has too little."""

    resource: str
    is_hopeless: bool


class ResourceClasses:
    """The class of each extended resource; of two classes for the same resource the newer one."""

    def __init__(self, classes: Mapping[str, Obj]) -> None:
        self._by_resource: dict[str, str] = {}
        # Of classes with the same age the first name wins, so it is entered last.
        by_name = sorted(classes.values(), key=lambda item: str(item["metadata"]["name"]), reverse=True)
        for item in sorted(by_name, key=lambda item: str(item["metadata"]["creationTimestamp"])):
            name = item["metadata"]["name"]
            self._by_resource[_BY_CLASS + name] = name
            if item["spec"].get("extendedResourceName"):
                self._by_resource[item["spec"]["extendedResourceName"]] = name

    def class_of(self, resource: str) -> str | None:
        """The class that serves the resource."""
        return self._by_resource.get(resource)


def extended_resources(pod: Obj) -> dict[str, int]:
    """The amount of each extended resource that the pod needs on its node."""
    spec = pod["spec"]
    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        requested = Counter(_extended_requests(container))
        if container.get("restartPolicy") == "Always":
            running += requested
            requested = Counter()
        peak |= running + requested
    for container in spec.get("containers") or ():
        running += Counter(_extended_requests(container))
    return dict(peak | running)


def shortage(
    node: Obj, wanted: Mapping[str, int], bound: Iterable[Obj], resource_classes: ResourceClasses
) -> Shortage | None:
    """The first resource that the node's device plugins lack and no class serves there, or None."""
    offered = _allocatable(node)
    for resource, count in wanted.items():
        if resource_classes.class_of(resource) and not offered.get(resource):
            continue
        used = sum(extended_resources(pod).get(resource, 0) for pod in bound)
        if count > offered.get(resource, 0) - used:
            return Shortage(resource, count > offered.get(resource, 0))
    return None


def extended_resource_claim(
    pod: Obj, node: Obj, wanted: Mapping[str, int], resource_classes: ResourceClasses
) -> ExtendedResourceClaim | None:
    """The claim for the resources that no device plugin of the node serves; None if there are none."""
    offered = _allocatable(node)
    requests: list[Obj] = []
    mappings: list[Obj] = []
    for resource in sorted(wanted):
        name = resource_classes.class_of(resource)
        if name is not None and not offered.get(resource):
            found, mapped = _Resource(resource, name).split(pod["spec"])
            requests += found
            mappings += mapped
    if not requests:
        return None
    metadata = pod["metadata"]
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": f"{metadata['name']}-extended-resources-",
            "namespace": metadata["namespace"],
            "annotations": {ANNOTATION: "true"},
            "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": sorted(requests, key=lambda request: str(request["name"]))}},
    }
    return ExtendedResourceClaim(claim=claim, mappings=tuple(mappings))


def left_over(pod: Obj, claims: Iterable[Obj]) -> Obj | None:
    """The claim that an earlier attempt created for the pod and could not delete, or None."""
    uid = pod["metadata"]["uid"]
    for claim in claims:
        metadata = claim["metadata"]
        owners = [owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
        if uid in owners and (metadata.get("annotations") or {}).get(ANNOTATION) == "true":
            return claim
    return None


@dataclass(frozen=True, slots=True)
class _Resource:
    """One resource of a pod, split into requests for devices of its class."""

    name: str
    class_name: str

    def split(self, spec: Obj) -> tuple[list[Obj], list[Obj]]:
        """The requests and the mappings. An ordinary init container uses the devices of later containers."""
        init = spec.get("initContainers") or []
        containers = [*init, *spec["containers"]]
        long: dict[int, Obj] = {}
        mappings: list[Obj] = []
        passing = [i for i, one in enumerate(init) if one.get("restartPolicy") != "Always"]
        for index in (i for i in range(len(containers)) if i not in passing):
            request, mapped = self._request(index, containers[index], ())
            mappings += mapped
            if request is not None:
                long[index] = request
        largest, more = self._passing(containers, passing, long)
        requests = ([largest] if largest else []) + list(long.values())
        return requests, mappings + more

    def _passing(
        self, containers: Sequence[Obj], passing: Sequence[int], long: Mapping[int, Obj]
    ) -> tuple[Obj | None, list[Obj]]:
        """The one request for all ordinary init containers, the largest of theirs, and the mappings."""
        own: list[Obj] = []
        mappings: list[Obj] = []
        for index in passing:
            later = [request for number, request in long.items() if number >= index]
            request, mapped = self._request(index, containers[index], later)
            mappings += mapped
            own += [request] if request is not None else []
        if not own:
            return None, mappings
        largest = max(own, key=lambda request: int(request["exactly"]["count"]))
        replaced = {request["name"] for request in own}
        for mapping in mappings:
            if mapping["requestName"] in replaced:
                mapping["requestName"] = largest["name"]
        return largest, mappings

    def _request(self, index: int, container: Obj, later: Iterable[Obj]) -> tuple[Obj | None, list[Obj]]:
        requested = _requests_of(container)
        missing = _extended_requests(container).get(self.name, 0)
        mappings: list[Obj] = []
        for request in later if missing else ():
            mappings.append(self._mapping(container, request["name"]))
            missing -= request["exactly"]["count"]
            if missing <= 0:
                break
        if missing <= 0:
            return None, mappings
        name = f"container-{index}-request-{sorted(requested).index(self.name)}"
        exactly = {"deviceClassName": self.class_name, "allocationMode": "ExactCount", "count": missing}
        return {"name": name, "exactly": exactly}, [*mappings, self._mapping(container, name)]

    def _mapping(self, container: Obj, request: str) -> Obj:
        return {"containerName": container["name"], "resourceName": self.name, "requestName": request}


def _extended_requests(container: Obj) -> dict[str, int]:
    """The amount of each extended resource of the container."""
    return dict(_counted(_requests_of(container)))


def _counted(quantities: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for name, text in quantities.items():
        if _is_extended(name) and (count := int(parse_quantity(str(text)))):
            yield name, count


def _requests_of(container: Obj) -> dict[str, str]:
    """The container's requests; a limit without a request counts as one."""
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _allocatable(node: Obj) -> dict[str, int]:
    return dict(_counted((node.get("status") or {}).get("allocatable") or {}))


def _is_extended(name: str) -> bool:
    if name.startswith(_BY_CLASS):
        return True
    return "/" in name and not name.startswith(_NATIVE[1]) and _NATIVE[0] not in name
