"""Lists: selectors, pages, and a page whose list is too old."""

import pytest

from support.kube_objects import LEASES, PODS, SLICES, lease, pod, resource_slice
from support.raw_api import MERGE_PATCH, Answer, RawApi
from support.realkube.answers import Server, causes, names, refusal


def five(api: RawApi, unique: str) -> list[str]:
    made = [f"{unique}-{index}" for index in range(5)]
    for index, name in enumerate(made):
        api.post(LEASES, lease(name, labels={"case": unique, "odd": str(index % 2)}))
    return made


def page(api: RawApi, unique: str, limit: int, token: str = "") -> Answer:
    more = {"continue": token} if token else {}
    return api.get(LEASES, labelSelector=f"case={unique}", limit=limit, **more)


def test_a_list_names_its_kind_and_version_and_its_items_do_not(api: RawApi, unique: str) -> None:
    five(api, unique)
    answer = api.get(LEASES)

    assert (answer.body["kind"], answer.body["apiVersion"]) == ("LeaseList", "coordination.k8s.io/v1")
    assert int(answer.version) > 0
    assert not {"kind", "apiVersion"} & answer.body["items"][0].keys()


def test_an_empty_list_has_an_empty_list_of_items(api: RawApi, unique: str) -> None:
    assert api.get(LEASES, labelSelector=f"case={unique}").body["items"] == []


def test_pages_are_one_snapshot_in_the_order_of_names(api: RawApi, unique: str) -> None:
    expected = five(api, unique)
    first = page(api, unique, 2)
    api.post(LEASES, lease(f"{unique}-1a", labels={"case": unique}))
    api.delete(f"{LEASES}/{expected[4]}")
    second = page(api, unique, 2, first.body["metadata"]["continue"])
    third = page(api, unique, 2, second.body["metadata"]["continue"])

    assert names(first) + names(second) + names(third) == expected
    assert first.version == second.version == third.version
    assert "continue" not in third.body["metadata"]


def test_what_remains_is_counted_only_without_a_selector(api: RawApi, unique: str) -> None:
    namespace = f"/apis/coordination.k8s.io/v1/namespaces/{unique}/leases"
    api.post("/api/v1/namespaces", {"metadata": {"name": unique}})
    for index in range(5):
        api.post(namespace, lease(f"l{index}", labels={"case": unique}))

    assert api.get(namespace, limit=2).body["metadata"]["remainingItemCount"] == 3
    selected = api.get(namespace, limit=2, labelSelector=f"case={unique}").body["metadata"]
    assert "remainingItemCount" not in selected
    assert "continue" in selected


def test_a_token_and_a_version_exclude_each_other(api: RawApi, unique: str) -> None:
    five(api, unique)
    first = page(api, unique, 2)
    answer = api.get(
        LEASES, limit=2, resourceVersion=first.version, **{"continue": first.body["metadata"]["continue"]}
    )

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"] == "specifying resource version is not allowed when using continue"


def test_a_token_that_is_none_is_refused(api: RawApi) -> None:
    answer = api.get(LEASES, limit=2, **{"continue": "garbage"})

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].startswith("invalid continue token: continue key is not valid")


def test_a_page_of_a_forgotten_list_is_expired(server: Server, unique: str) -> None:
    api = server.api
    five(api, unique)
    first = page(api, unique, 2)
    api.delete(f"{LEASES}/{unique}-4")
    server.forget()
    answer = page(api, unique, 2, first.body["metadata"]["continue"])

    assert refusal(answer) == (410, "Expired")
    assert answer.body["message"].startswith(
        "The provided continue parameter is too old to display a consistent list result."
    )


def test_an_expired_page_says_how_to_go_on_without_consistency(server: Server, unique: str) -> None:
    api = server.api
    expected = five(api, unique)
    first = page(api, unique, 2)
    api.delete(f"{LEASES}/{unique}-4")
    server.forget()
    expired = page(api, unique, 2, first.body["metadata"]["continue"])
    rest = page(api, unique, 9, expired.body["metadata"]["continue"])

    assert names(first) + names(rest) == expected[:4]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("odd=1", [1, 3]),
        ("odd==1", [1, 3]),
        ("odd!=1", [0, 2, 4]),
        ("odd in (0,7)", [0, 2, 4]),
        ("odd notin (0,7)", [1, 3]),
        ("odd", [0, 1, 2, 3, 4]),
        ("!odd", []),
        ("odd,odd!=0", [1, 3]),
        ("nothere!=1", [0, 1, 2, 3, 4]),
        ("odd gt 0", [1, 3]),
    ],
)
def test_label_selectors(api: RawApi, unique: str, selector: str, expected: list[int]) -> None:
    made = five(api, unique)
    selector = selector.replace(" gt ", ">")

    assert names(api.get(LEASES, labelSelector=f"case={unique},{selector}")) == [made[i] for i in expected]


def test_slices_are_selected_by_driver_node_and_pool(api: RawApi, unique: str) -> None:
    node, driver = f"node-{unique}", "other.vitals.internal"
    api.post(SLICES, resource_slice(f"{unique}-a", node=node))
    api.post(SLICES, resource_slice(f"{unique}-b", node=node, driver=driver))

    def select(selector: str) -> list[str]:
        return names(api.get(SLICES, fieldSelector=selector))

    assert select(f"spec.nodeName={node},spec.driver={driver}") == [f"{unique}-b"]
    assert select(f"spec.nodeName={node},spec.driver!={driver}") == [f"{unique}-a"]
    assert select(f"spec.pool.name={node}") == [f"{unique}-a", f"{unique}-b"]
    assert select(f"metadata.name={unique}-a") == [f"{unique}-a"]


@pytest.mark.parametrize(
    ("path", "selector", "message"),
    [
        (
            SLICES,
            "spec.nope=x",
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.nope",
        ),
        (
            LEASES,
            "spec.nope=x",
            '"spec.nope" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        (SLICES, "nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
    ],
    ids=["slices", "leases", "unreadable"],
)
def test_a_field_selector_that_is_not_known_is_a_bad_request(
    api: RawApi, path: str, selector: str, message: str
) -> None:
    answer = api.get(path, fieldSelector=selector)

    assert refusal(answer) == (400, "BadRequest")
    assert message in answer.body["message"]


def test_version_zero_lists_what_the_server_has_at_hand(api: RawApi, unique: str) -> None:
    five(api, unique)
    answer = api.get(LEASES, resourceVersion="0", labelSelector=f"case={unique}")

    assert answer.status == 200
    assert int(answer.version) > 0


def test_a_version_of_the_future_is_a_timeout(api: RawApi) -> None:
    answer = api.get(LEASES, resourceVersion="999999999", timeoutSeconds=1)

    assert refusal(answer) == (504, "Timeout")
    assert answer.body["message"].startswith("Timeout: Too large resource version: 999999999, current: ")
    assert [cause["reason"] for cause in answer.body["details"]["causes"]] == ["ResourceVersionTooLarge"]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (
            {"resourceVersionMatch": "Exact"},
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            {"resourceVersionMatch": "Near", "resourceVersion": "5"},
            'resourceVersionMatch: Unsupported value: "Near": supported values: "Exact", "NotOlderThan", ""',
        ),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
        ),
        (
            {"sendInitialEvents": True},
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            {"sendInitialEvents": True, "watch": True, "timeoutSeconds": 1},
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
    ],
    ids=["no version", "no such match", "version 0", "initial events", "watch"],
)
def test_options_of_a_list_that_contradict_each_other_are_refused(
    api: RawApi, query: dict[str, object], complaint: str
) -> None:
    answer = api.get(LEASES, **query)

    assert causes(answer) == [complaint]
    assert answer.body["message"] == f'ListOptions.meta.k8s.io "" is invalid: {complaint}'


@pytest.mark.parametrize("name", ["limit", "timeoutSeconds"])
def test_a_number_that_is_none_is_a_bad_request(api: RawApi, name: str) -> None:
    answer = api.get(LEASES, **{name: "x"})

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"] == 'strconv.ParseInt: parsing "x": invalid syntax'


def test_an_exact_version_lists_what_was_there_then(api: RawApi, unique: str) -> None:
    before = five(api, unique)
    version = api.get(LEASES).version
    api.delete(f"{LEASES}/{before[0]}")
    query = {"labelSelector": f"case={unique}", "resourceVersion": version}

    assert names(api.get(LEASES, resourceVersionMatch="Exact", **query)) == before
    assert names(api.get(LEASES, resourceVersionMatch="NotOlderThan", **query)) == before[1:]


def test_pods_are_selected_by_node_and_phase(api: RawApi, unique: str) -> None:
    for number in range(3):
        api.post(PODS, pod(f"{unique}-{number}", labels={"case": unique}))
    target = {"metadata": {"name": f"{unique}-1"}, "target": {"kind": "Node", "name": f"node-{unique}"}}
    api.post(f"{PODS}/{unique}-1/binding", target)
    api.patch(f"{PODS}/{unique}-2/status", MERGE_PATCH, {"status": {"phase": "Failed"}})

    def select(selector: str) -> list[str]:
        return names(api.get(PODS, labelSelector=f"case={unique}", fieldSelector=selector))

    assert select(f"spec.nodeName=node-{unique}") == [f"{unique}-1"]
    assert select("spec.nodeName=") == [f"{unique}-0", f"{unique}-2"]
    assert select("status.phase!=Failed") == [f"{unique}-0", f"{unique}-1"]
    assert select("status.phase=Failed,spec.restartPolicy=Always") == [f"{unique}-2"]


INVALID_VALUE = "a valid label must be an empty string or consist of alphanumeric characters, "


@pytest.mark.parametrize(
    ("selector", "start"),
    [
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("-a=b", 'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of '),
        ("a=-b", f'unable to parse requirement: values[0][a]: Invalid value: "-b": {INVALID_VALUE}'),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be "
            "an integer",
        ),
    ],
)
def test_a_label_selector_that_means_nothing_is_refused(api: RawApi, selector: str, start: str) -> None:
    answer = api.get(LEASES, labelSelector=selector)

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].startswith(start)
