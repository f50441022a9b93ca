"""Pods: binding, grace period, mutable fields, and eviction within PodDisruptionBudgets."""

import pytest

from support.kube_objects import PODS, pod
from support.raw_api import MERGE_PATCH, STRATEGIC_PATCH, Answer, Json, RawApi
from support.realkube.answers import causes, refusal, stored

BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
VIOLATION = "Cannot evict pod as it would violate the pod's disruption budget."


def bind(api: RawApi, name: str) -> Answer:
    body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "node-a"}}
    return api.post(f"{PODS}/{name}/binding", body)


def running(api: RawApi, name: str, **labels: str) -> Json:
    """A bound pod whose container runs and is ready."""
    stored(api.post(PODS, pod(name, labels=labels)))
    assert bind(api, name).status == 201
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return stored(api.patch(f"{PODS}/{name}/status", STRATEGIC_PATCH, {"status": status}))


def budget(api: RawApi, unique: str, **status: object) -> None:
    """A budget of the case's pods whose controller has written the status (there is none: we do)."""
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"case": unique}}}
    stored(api.post(BUDGETS, {"metadata": {"name": unique}, "spec": spec}))
    if status:
        seen = {
            "observedGeneration": 1,
            "currentHealthy": 4,
            "desiredHealthy": 2,
            "expectedPods": 4,
            **status,
        }
        stored(api.patch(f"{BUDGETS}/{unique}/status", MERGE_PATCH, {"status": seen}))


def evict(api: RawApi, name: str, options: Json | None = None, **query: object) -> Answer:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    return api.post(
        f"{PODS}/{name}/eviction", body | ({"deleteOptions": options} if options else {}), **query
    )


def test_a_pod_is_bound_once(api: RawApi, unique: str) -> None:
    stored(api.post(PODS, pod(unique)))
    bound, again = bind(api, unique), bind(api, unique)

    assert (bound.status, bound.body["status"]) == (201, "Success")
    assert stored(api.get(f"{PODS}/{unique}"))["spec"]["nodeName"] == "node-a"
    assert refusal(again) == (409, "Conflict")
    assert again.body["message"] == (
        f'Operation cannot be fulfilled on pods/binding "{unique}": pod {unique} is already assigned to node '
        '"node-a"'
    )
    assert refusal(bind(api, f"{unique}-none")) == (404, "NotFound")


def test_a_new_pod_is_pending_and_tolerates_a_node_that_is_away(api: RawApi) -> None:
    made = stored(api.post(PODS, pod("a"), dryRun="All"))

    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert [each["key"] for each in made["spec"]["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]


def test_of_a_pods_spec_only_little_changes(api: RawApi, unique: str) -> None:
    stored(api.post(PODS, pod(unique)))
    image = {"spec": {"containers": [{"name": "main", "image": "gpu-job:2"}]}}
    changed = api.patch(f"{PODS}/{unique}", STRATEGIC_PATCH, image)
    refused = api.patch(f"{PODS}/{unique}", MERGE_PATCH, {"spec": {"nodeName": "node-b"}})

    assert stored(changed)["metadata"]["generation"] == 2
    [complaint] = causes(refused)
    assert complaint.startswith("spec: Forbidden: pod updates may not change fields other than ")


def test_an_update_may_leave_out_what_the_server_had_filled_in(api: RawApi, unique: str) -> None:
    stored(api.post(PODS, pod(unique)))
    answer = api.put(f"{PODS}/{unique}", pod(unique, labels={"a": "b"}))

    assert stored(answer)["metadata"]["labels"] == {"a": "b"}
    assert len(answer.body["spec"]["tolerations"]) == 2


def test_a_pods_foreign_condition_stays_beside_those_of_the_kubelet(api: RawApi, unique: str) -> None:
    running(api, unique)
    ours = {"type": "vitals.internal/GPUHealthy", "status": "False", "reason": "Xid79", "message": "m"}
    answer = api.patch(f"{PODS}/{unique}/status", STRATEGIC_PATCH, {"status": {"conditions": [ours]}})

    found = {entry["type"]: entry["status"] for entry in stored(answer)["status"]["conditions"]}
    assert found == {"vitals.internal/GPUHealthy": "False", "Ready": "True", "PodScheduled": "True"}


def test_a_bound_pod_goes_with_grace_and_an_unbound_one_at_once(api: RawApi, unique: str) -> None:
    running(api, unique)
    stored(api.post(PODS, pod(f"{unique}-2")))
    going = stored(api.delete(f"{PODS}/{unique}"))
    api.delete(f"{PODS}/{unique}-2")

    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert going["metadata"]["deletionTimestamp"] > going["metadata"]["creationTimestamp"]
    assert api.get(f"{PODS}/{unique}").status == 200
    assert api.get(f"{PODS}/{unique}-2").status == 404


def test_grace_can_be_shortened_and_not_lengthened(api: RawApi, unique: str) -> None:
    running(api, unique)
    path = f"{PODS}/{unique}"
    seconds = [
        stored(api.delete(path, {"gracePeriodSeconds": wanted}))["metadata"]["deletionGracePeriodSeconds"]
        for wanted in (20, 60, 5)
    ]
    api.delete(path, {"gracePeriodSeconds": 0})

    assert seconds == [20, 20, 5]
    assert api.get(path).status == 404


def test_an_eviction_without_a_budget_deletes_and_says_so(api: RawApi, unique: str) -> None:
    running(api, unique)
    answer = evict(api, unique)
    gone = stored(api.get(f"{PODS}/{unique}"))

    assert (answer.status, answer.body["status"]) == (201, "Success")
    assert "deletionTimestamp" in gone["metadata"]
    [target] = [entry for entry in gone["status"]["conditions"] if entry["type"] == "DisruptionTarget"]
    assert (target["reason"], target["message"]) == ("EvictionByEvictionAPI", "Eviction API: evicting")


def test_a_budget_that_was_not_looked_at_yet_asks_to_come_back(api: RawApi, unique: str) -> None:
    running(api, unique, case=unique)
    budget(api, unique)
    answer = evict(api, unique)

    assert refusal(answer) == (429, "TooManyRequests")
    assert answer.headers["retry-after"] == "10"
    assert answer.body["message"] == VIOLATION
    assert [cause["message"] for cause in answer.body["details"]["causes"]] == [
        f"The disruption budget {unique} is still being processed by the server."
    ]


def test_an_eviction_spends_the_budget_and_the_next_is_refused(api: RawApi, unique: str) -> None:
    for number in range(2):
        running(api, f"{unique}-{number}", case=unique)
    budget(api, unique, disruptionsAllowed=1)
    first = evict(api, f"{unique}-0")
    status = stored(api.get(f"{BUDGETS}/{unique}"))["status"]
    second = evict(api, f"{unique}-1")

    assert first.status == 201
    assert (status["disruptionsAllowed"], list(status["disruptedPods"])) == (0, [f"{unique}-0"])
    assert refusal(second) == (429, "TooManyRequests")
    assert "deletionTimestamp" not in stored(api.get(f"{PODS}/{unique}-1"))["metadata"]


def test_an_exhausted_budget_says_how_many_it_needs(api: RawApi, unique: str) -> None:
    running(api, unique, case=unique)
    budget(api, unique, currentHealthy=2, disruptionsAllowed=0)
    answer = evict(api, unique)

    assert "retry-after" not in answer.headers
    assert answer.body["details"]["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": f"The disruption budget {unique} needs 2 healthy pods and has 2 currently",
        }
    ]


def test_two_budgets_for_one_pod_are_an_error(api: RawApi, unique: str) -> None:
    running(api, unique, case=unique)
    budget(api, unique, disruptionsAllowed=1)
    spec = {"maxUnavailable": "50%", "selector": {"matchLabels": {"case": unique}}}
    stored(api.post(BUDGETS, {"metadata": {"name": f"{unique}-2"}, "spec": spec}))
    answer = evict(api, unique)

    assert answer.status == 500
    assert answer.body["message"] == (
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Pending"])
def test_a_pod_that_does_not_run_needs_no_budget(api: RawApi, unique: str, phase: str) -> None:
    stored(api.post(PODS, pod(unique, labels={"case": unique})))
    stored(api.patch(f"{PODS}/{unique}/status", MERGE_PATCH, {"status": {"phase": phase}}))
    budget(api, unique, disruptionsAllowed=0)

    assert evict(api, unique).status == 201


def test_a_dry_eviction_spends_nothing(api: RawApi, unique: str) -> None:
    running(api, unique, case=unique)
    budget(api, unique, disruptionsAllowed=1)
    answer = evict(api, unique, dryRun="All")

    assert answer.status == 201
    assert stored(api.get(f"{BUDGETS}/{unique}"))["status"]["disruptionsAllowed"] == 1
    assert "deletionTimestamp" not in stored(api.get(f"{PODS}/{unique}"))["metadata"]


def test_an_eviction_of_a_pod_with_another_uid_is_a_conflict(api: RawApi, unique: str) -> None:
    running(api, unique)
    other = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}

    assert refusal(evict(api, unique, other)) == (409, "Conflict")
    assert "deletionTimestamp" not in stored(api.get(f"{PODS}/{unique}"))["metadata"]


def test_an_eviction_may_set_the_grace(api: RawApi, unique: str) -> None:
    running(api, unique)

    assert evict(api, unique, {"gracePeriodSeconds": 0}).status == 201
    assert api.get(f"{PODS}/{unique}").status == 404


def test_an_eviction_of_nobody_or_of_another_is_refused(api: RawApi, unique: str) -> None:
    other = api.post(f"{PODS}/{unique}/eviction", {"metadata": {"name": "other"}})

    assert refusal(evict(api, unique)) == (404, "NotFound")
    assert refusal(other) == (400, "BadRequest")
    assert other.body["message"] == "name in URL does not match name in Eviction object"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"minAvailable": -1}, "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"maxUnavailable": "150%"},
            'spec.maxUnavailable: Invalid value: "150%": must not be greater than 100%',
        ),
        (
            {"minAvailable": "x"},
            'spec.minAvailable: Invalid value: "x": a valid percent string must be a numeric string followed by an '
            "ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        (
            {"minAvailable": 1, "maxUnavailable": 1},
            'spec: Invalid value: {"MinAvailable":1,"Selector":null,"MaxUnavailable":1,'
            '"UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set',
        ),
    ],
    ids=["negative", "more than all", "no number", "both"],
)
def test_a_budget_that_means_nothing_is_refused(api: RawApi, spec: Json, complaint: str) -> None:
    assert causes(api.post(BUDGETS, {"metadata": {"name": "a"}, "spec": spec}, dryRun="All")) == [complaint]


def test_a_budgets_update_wants_a_version(api: RawApi, unique: str) -> None:
    budget(api, unique)
    answer = api.put(f"{BUDGETS}/{unique}", {"metadata": {"name": unique}, "spec": {"minAvailable": 1}})

    assert causes(answer) == ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"]
