"""Whether the server keeps device taints, asked by a create that is never stored."""

import msgspec

from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import Invalid, Retryable
from gpuvitals.kube.slice_codec import API_VERSION, PATH, encode, observed_slice


def probe_mode(transport: Transport, driver: str, node: str) -> ServiceMode:
    """TAINT where a taint with effect None survives a dry run, else WITHDRAW. Raises ApiError.

    1.35 with its defaults drops taints; 1.34 with the gate on refuses the effect None, and then every slice with a
    degraded device would be refused with it.
    """
    taint = {"key": f"{driver}/probe", "value": "probe", "effect": "None"}
    body = {
        "apiVersion": API_VERSION,
        "kind": "ResourceSlice",
        "metadata": {"generateName": "gpuvitals-probe-"},
        "spec": {
            "driver": driver,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "probe", "taints": [taint]}],
        },
    }
    call = Call(method="POST", path=PATH, query=(("dryRun", "All"),), body=encode(body))
    try:
        answer = transport.request(call)
    except Invalid as error:
        if any("taints" in field for field in error.fields):
            return ServiceMode.WITHDRAW
        raise
    try:
        stored = observed_slice(answer, "")
    except msgspec.DecodeError as error:
        raise Retryable(f"dry run of a slice: {error}") from error
    return ServiceMode.TAINT if stored.taints else ServiceMode.WITHDRAW
