"""The embedded Kubernetes API server of `gpuvitals demo` and of the tests.

It behaves as kube-apiserver 1.37 does for the kinds in `kinds.py`; one contract suite runs on both, and a difference
is a bug of this one. May live here: the behaviour of the real server. May not: anything about GPUs, and controllers
(those are in `gpuvitals_sim.controllers`: a bare server, like the real one, computes no budgets, collects no garbage
and generates no claims).

    from gpuvitals_sim.apiserver import ApiServer, Match

    with ApiServer() as server:                     # a free port on loopback; stops with the block
        server.url                                  # "http://127.0.0.1:40123", plain HTTP, no credentials
        client = server.client("scheduler")         # the same API without sockets, own copies of objects
        client.create("nodes", {"metadata": {"name": "node-a"}})
        client.list("pods", fields="spec.nodeName=node-a")
        client.apply("resourceclaims.resource.k8s.io", {...}, subresource="status", force=True)
        with client.watch("pods", resource_version=version) as watch:
            event = watch.next(timeout_seconds=1.0)         # {"type": "ADDED", "object": {...}} or None
        server.faults.fail(409, times=2, match=Match(verbs=("update",), resource="resourceslices"))
        server.faults.lose_answer()                 # the next write is stored, its answer is not sent
        server.faults.drop_device_taints()          # behave as Kubernetes 1.34
        with server.outage(): ...                   # connections refused, objects and port kept
        server.requests.writes(resource="resourceslices")   # requests of clients, with bodies and times
        server.store.get(Key("nodes", "", "node-a"))        # stored objects, without copies

Modules: `kinds` (the table), `storage`, `request`, `verbs/` (operations), `strategy/` (rules per kind),
`patching/`, `merge_schema` + `managed_fields/` (server-side apply), `representation/` (tables, discovery, OpenAPI), `http/`,
`faults`, `request_log`, `access`, `server`, `client` (the interface), `in_process`.
"""

from gpuvitals_sim.apiserver.access import Access
from gpuvitals_sim.apiserver.api import ApiSettings
from gpuvitals_sim.apiserver.client import ApiClient
from gpuvitals_sim.apiserver.errors import ApiError
from gpuvitals_sim.apiserver.faults import EVERYTHING, WRITES, Fault, Faults, Match
from gpuvitals_sim.apiserver.in_process import InProcessClient
from gpuvitals_sim.apiserver.request import DeleteOptions
from gpuvitals_sim.apiserver.request_log import RequestFacts, RequestLog
from gpuvitals_sim.apiserver.server import ApiServer
from gpuvitals_sim.apiserver.storage import Key, Store
from gpuvitals_sim.apiserver.verbs.watching import Watch

__all__ = [
    "EVERYTHING",
    "WRITES",
    "Access",
    "ApiClient",
    "ApiError",
    "ApiServer",
    "ApiSettings",
    "DeleteOptions",
    "Fault",
    "Faults",
    "InProcessClient",
    "Key",
    "Match",
    "RequestFacts",
    "RequestLog",
    "Store",
    "Watch",
]
