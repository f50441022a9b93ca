"""Events about pods, as the controllers write them.

Place in the chain: used by claims and taint_eviction.
"""

from hashlib import sha256

from gpuvitals_sim.apiserver import ApiClient
from gpuvitals_sim.apiserver.json_types import Obj, timestamp

_COMPONENTS = {
    "DeviceTaintManagerEviction": "device-taint-eviction-controller",
    "FailedResourceClaimCreation": "resource_claim",
}


def note(client: ApiClient, pod: Obj, kind: str, reason: str, message: str) -> None:
    """Writes the event of type `kind`, once a pod."""
    metadata, now = pod["metadata"], timestamp()
    digest = sha256(f"{metadata['uid']}/{reason}/{message}".encode()).hexdigest()[:16]
    name = f"{metadata['name'][:200]}.{digest}"
    if client.find("events", name, metadata["namespace"]) is not None:
        return
    about = {key: metadata[key] for key in ("name", "namespace", "uid")}
    component = _COMPONENTS[reason]
    event = {
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", **about},
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
    }
    client.create("events", event)
