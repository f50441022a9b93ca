"""The requirements of kubectl and the official client: discovery, tables, OpenAPI, typed answers."""

from typing import Any

import kubernetes.client
import pytest
from kubernetes import watch

from gpuvitals_sim.apiserver import ApiServer
from support.raw_api import TABLE, RawApi

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
PODS = "/api/v1/namespaces/default/pods"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
POOL = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}


def test_discovery_names_everything_in_both_forms(raw: RawApi) -> None:
    assert raw.get("/api").body["versions"] == ["v1"]
    groups = {group["name"] for group in raw.get("/apis").body["groups"]}
    assert {"resource.k8s.io", "batch", "policy", "coordination.k8s.io", "apiextensions.k8s.io"} <= groups
    names = {entry["name"] for entry in raw.get("/api/v1").body["resources"]}
    assert {"nodes", "nodes/status", "pods", "pods/eviction", "pods/binding", "events"} <= names
    answer = raw.get("/apis", accept=AGGREGATED)
    assert answer.headers["content-type"] == AGGREGATED.partition(",")[0]
    assert {item["metadata"]["name"] for item in answer.body["items"]} == groups


def test_openapi_says_that_the_server_validates_fields(raw: RawApi) -> None:
    index = raw.get("/openapi/v3").body["paths"]
    document = raw.get(index["apis/resource.k8s.io/v1"]["serverRelativeURL"]).body
    patch = document["paths"]["/apis/resource.k8s.io/v1/resourceslices/{name}"]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "ResourceSlice"
    assert raw.get("/openapi/v2").body["swagger"] == "2.0"


def cells(raw: RawApi, path: str) -> dict[str, Any]:
    table = raw.get(path, accept=TABLE).body
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))


def test_tables_show_what_kubectl_get_shows(raw: RawApi) -> None:
    raw.post("/api/v1/nodes", {"metadata": {"name": "node-a"}, "spec": {"unschedulable": True}})
    raw.post(
        SLICES,
        {
            "metadata": {"name": "s"},
            "spec": {"driver": "d", "nodeName": "node-a", "pool": POOL, "devices": []},
        },
    )
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}
    raw.post(
        "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
        {"metadata": {"name": "c"}, "spec": spec},
    )
    raw.post(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    node = cells(raw, "/api/v1/nodes/node-a")
    assert (node["Name"], node["Status"], node["Age"]) == ("node-a", "Unknown,SchedulingDisabled", "0s")
    assert (cells(raw, SLICES)["Node"], cells(raw, SLICES)["Pool"]) == ("node-a", "node-a")
    assert cells(raw, "/apis/resource.k8s.io/v1/resourceclaims")["State"] == "pending"
    pod = cells(raw, PODS)
    assert (pod["Ready"], pod["Status"], pod["Restarts"], pod["Node"]) == ("0/1", "Pending", "0", "<none>")


def test_a_watch_of_tables_sends_the_columns_once(raw: RawApi) -> None:
    for name in ("a", "b"):
        raw.post("/api/v1/nodes", {"metadata": {"name": name}})
    answer = raw.get("/api/v1/nodes", accept=TABLE, watch=True, timeoutSeconds=1)
    lines = answer.body["text"].splitlines()
    assert ['"columnDefinitions":[]' in line for line in lines] == [False, True]


@pytest.fixture
def official(server: ApiServer) -> Any:
    configuration = kubernetes.client.Configuration(host=server.url)
    with kubernetes.client.ApiClient(configuration) as client:
        yield client
        client.rest_client.pool_manager.clear()


def test_the_official_client_reads_and_writes_typed_objects(official: Any) -> None:
    core, resources = kubernetes.client.CoreV1Api(official), kubernetes.client.ResourceV1Api(official)
    core.create_node({"metadata": {"name": "node-a"}})
    patched = core.patch_node_status(
        "node-a", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    )
    assert [condition.type for condition in patched.status.conditions] == ["Ready"]
    body = {
        "metadata": {"name": "s"},
        "spec": {"driver": "d", "nodeName": "node-a", "pool": POOL, "devices": [{"name": "gpu-0"}]},
    }
    resources.create_resource_slice(body)
    found = resources.list_resource_slice(field_selector="spec.nodeName=node-a").items
    assert [item.spec.devices[0].name for item in found] == ["gpu-0"]
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        core.create_node({"metadata": {"name": "node-a"}})
    assert (refusal.value.status, refusal.value.reason) == (409, "Conflict")


def test_the_official_client_watches(official: Any) -> None:
    core = kubernetes.client.CoreV1Api(official)
    for name in ("a", "b"):
        core.create_node({"metadata": {"name": name}})
    events = watch.Watch().stream(core.list_node, timeout_seconds=1)
    assert [(event["type"], event["object"].metadata.name) for event in events] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
    ]


def test_the_official_client_leads_by_lease(official: Any) -> None:
    leases = kubernetes.client.CoordinationV1Api(official)
    lease = leases.create_namespaced_lease(
        "default", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}}
    )
    lease.spec.holder_identity = "b"
    assert leases.replace_namespaced_lease("l", "default", lease).spec.holder_identity == "b"
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        leases.replace_namespaced_lease("l", "default", lease)
    assert refusal.value.status == 409


def test_a_body_in_protobuf_is_refused_with_a_command_that_works(raw: RawApi) -> None:
    """Finding D1: `kubectl create namespace` sends protobuf, and the refusal named no way on."""
    answer = raw.request(
        "POST", "/api/v1/namespaces", body="k8s", content_type="application/vnd.kubernetes.protobuf"
    )

    assert answer.status == 415
    assert "--dry-run=client --output yaml | kubectl apply --filename -" in answer.body["message"]
