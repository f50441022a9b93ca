"""The HTTP side of the server: keep-alive, codes, content types, clean stop."""

import http.client
import json
import threading
import time
from contextlib import ExitStack, closing

import pytest

from gpuvitals_sim.apiserver import Access, ApiServer, RequestFacts
from support.raw_api import MERGE_PATCH, RawApi

NODES = "/api/v1/nodes"


def test_one_connection_serves_many_requests(server: ApiServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for name in ("a", "b"):
        connection.request(
            "POST", NODES, json.dumps({"metadata": {"name": name}}), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["metadata"]["name"]) == (201, name)
    connection.close()


def test_a_stopped_server_leaves_no_thread() -> None:
    """Idle keep-alive connections and open watches are ended too. Servers of other tests may be alive."""
    before = set(threading.enumerate())
    with ExitStack() as cleanup:
        with ApiServer() as server:
            idle, watch = (
                cleanup.enter_context(
                    closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10))
                )
                for _ in range(2)
            )
            idle.request("GET", "/readyz")
            idle.getresponse().read()
            watch.request("GET", f"{NODES}?watch=true")
            cleanup.enter_context(closing(watch.getresponse()))
            began = time.monotonic()
        assert time.monotonic() - began < 2.0
        left = set(threading.enumerate()) - before
        assert not [thread for thread in left if thread.name.startswith("apiserver")]


@pytest.mark.parametrize(
    ("method", "path", "code", "text"),
    [
        ("GET", "/api/v1/unknown", 404, "the server could not find the requested resource"),
        ("GET", "/apis/unknown/v1", 404, "404 page not found\n"),
        ("GET", f"{NODES}/n/unknown", 404, "the server could not find the requested resource"),
        ("PUT", NODES, 405, "the server does not allow this method on the requested resource"),
        ("POST", "/api/v1/pods", 405, "the server does not allow this method on the requested resource"),
        ("GET", f"{NODES}/n", 404, 'nodes "n" not found'),
    ],
)
def test_paths_that_mean_nothing_are_refused(
    raw: RawApi, method: str, path: str, code: int, text: str
) -> None:
    answer = raw.request(method, path)
    assert (answer.status, answer.body.get("message", answer.body.get("text"))) == (code, text)


def test_bodies_are_json_or_yaml(raw: RawApi) -> None:
    assert (
        raw.request(
            "POST", NODES, body="kind: Node\nmetadata: {name: y}\n", content_type="application/yaml"
        ).status
        == 201
    )
    assert (
        raw.request("POST", NODES, body="x", content_type="application/vnd.kubernetes.protobuf").status == 415
    )
    assert raw.request("POST", NODES, body="{").status == 400
    assert raw.get(NODES, accept="application/vnd.kubernetes.protobuf").status == 406
    assert raw.get(NODES, accept="application/vnd.kubernetes.protobuf, application/json").status == 200


def test_health_and_version(raw: RawApi) -> None:
    assert [raw.get(path).body for path in ("/healthz", "/readyz", "/livez")] == [{"text": "ok"}] * 3
    assert raw.get("/version").body["gitVersion"] == "v1.37.2"


def test_the_request_log_holds_what_clients_sent(server: ApiServer, raw: RawApi) -> None:
    raw.post(NODES, {"metadata": {"name": "n"}})
    raw.patch(f"{NODES}/n/status", MERGE_PATCH, {"status": {"phase": "x"}}, fieldManager="agent")
    raw.get(NODES, limit=5)
    raw.patch(f"{NODES}/nobody", MERGE_PATCH, {})
    create, patch, read, refused = server.requests.all()
    assert (create.verb, create.resource, create.status, json.loads(create.body)) == (
        "create",
        "nodes",
        201,
        {"metadata": {"name": "n"}},
    )
    assert (patch.verb, patch.subresource, patch.name, patch.query) == (
        "patch",
        "status",
        "n",
        "fieldManager=agent",
    )
    assert patch.content_type == MERGE_PATCH
    assert (read.verb, read.is_write) == ("list", False)
    assert refused.status == 404
    assert create.at_monotonic <= patch.at_monotonic <= time.monotonic()
    assert server.requests.writes(resource="nodes") == (create, patch, refused)
    server.requests.clear()
    assert server.requests.all() == ()


def test_tokens_name_users_and_a_rule_restricts_them() -> None:
    def allows(request: RequestFacts) -> bool:
        return request.user == "admin" or request.verb == "get"

    with ApiServer(access=Access(tokens={"secret": "agent"}, allows=allows)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

        def ask(token: str, method: str = "GET") -> tuple[int, str]:
            connection.request(method, f"{NODES}/n", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())["message"]

        assert ask("wrong") == (401, "Unauthorized")
        assert ask("secret") == (404, 'nodes "n" not found')
        refused = 'nodes "n" is forbidden: User "agent" cannot delete resource "nodes" in API group "" at the cluster scope'
        assert ask("secret", "DELETE") == (403, refused)
        connection.close()
