"""Namespaces and jobs, as far as the API server alone decides."""

import pytest

from support.kube_objects import JOBS, NAMESPACES, job
from support.raw_api import MERGE_PATCH, RawApi
from support.realkube.answers import causes, refusal, stored, warnings


def test_a_namespace_is_active_and_carries_its_name_as_a_label(api: RawApi, unique: str) -> None:
    made = stored(api.post(NAMESPACES, {"metadata": {"name": unique}}))

    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": unique}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})


def test_a_deleted_namespace_takes_nothing_new_and_goes_when_it_is_finalized(
    api: RawApi, unique: str
) -> None:
    stored(api.post(NAMESPACES, {"metadata": {"name": unique}}))
    going = stored(api.delete(f"{NAMESPACES}/{unique}"))
    late = api.post(f"{NAMESPACES}/{unique}/configmaps", {"metadata": {"name": "a"}})
    finalized = api.put(f"{NAMESPACES}/{unique}/finalize", {"metadata": {"name": unique}, "spec": {}})

    assert going["status"]["phase"] == "Terminating"
    assert refusal(late) == (403, "Forbidden")
    assert late.body["message"] == (
        f'configmaps "a" is forbidden: unable to create new content in namespace {unique} because it is being '
        "terminated"
    )
    assert finalized.status == 200
    assert api.get(f"{NAMESPACES}/{unique}").status == 404


def test_the_namespace_default_stays(api: RawApi) -> None:
    answer = api.delete(f"{NAMESPACES}/default")

    assert refusal(answer) == (403, "Forbidden")
    assert answer.body["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'


def test_namespaces_are_not_deleted_as_a_collection(api: RawApi) -> None:
    assert refusal(api.delete(NAMESPACES)) == (405, "MethodNotAllowed")


def test_a_new_job_selects_its_pods_by_its_uid(api: RawApi, unique: str) -> None:
    made = stored(api.post(JOBS, job(unique)))
    uid, labels = made["metadata"]["uid"], made["spec"]["template"]["metadata"]["labels"]

    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert labels["batch.kubernetes.io/controller-uid"] == uid
    assert labels["batch.kubernetes.io/job-name"] == unique
    assert (made["spec"]["backoffLimit"], made["spec"]["completions"], made["spec"]["parallelism"]) == (
        6,
        1,
        1,
    )


def test_of_a_job_completions_are_fixed_and_suspend_is_not(api: RawApi, unique: str) -> None:
    stored(api.post(JOBS, job(unique)))
    refused = api.patch(f"{JOBS}/{unique}", MERGE_PATCH, {"spec": {"completions": 3}})
    suspended = api.patch(f"{JOBS}/{unique}", MERGE_PATCH, {"spec": {"suspend": True}})

    assert causes(refused) == ["spec.completions: Invalid value: 3: field is immutable"]
    assert stored(suspended)["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "name", ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
)
def test_a_jobs_numbers_are_not_negative(api: RawApi, name: str) -> None:
    assert causes(api.post(JOBS, job("a", **{name: -1}), dryRun="All")) == [
        f"spec.{name}: Invalid value: -1: must be greater than or equal to 0"
    ]


def test_a_jobs_pods_do_not_restart_always(api: RawApi) -> None:
    body = job("a")
    del body["spec"]["template"]["spec"]["restartPolicy"]

    assert causes(api.post(JOBS, body, dryRun="All")) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]


def test_a_jobs_status_is_written_apart(api: RawApi, unique: str) -> None:
    stored(api.post(JOBS, job(unique)))
    status = {"active": 1, "startTime": "2026-11-24T01:02:03Z"}
    stored(api.patch(f"{JOBS}/{unique}", MERGE_PATCH, {"status": {"active": 5}}))

    assert stored(api.patch(f"{JOBS}/{unique}/status", MERGE_PATCH, {"status": status}))["status"] == status


def test_a_job_that_is_deleted_without_a_word_leaves_its_pods_and_says_so(api: RawApi, unique: str) -> None:
    stored(api.post(JOBS, job(unique)))
    answer = api.delete(f"{JOBS}/{unique}")

    assert stored(answer)["metadata"]["finalizers"] == ["orphan"]
    [warning] = warnings(answer)
    assert warning.startswith("child pods are preserved by default when jobs are deleted; ")


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [("Background", None), ("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])],
)
def test_a_propagation_policy_becomes_a_finalizer(
    api: RawApi, unique: str, policy: str, finalizers: list[str] | None
) -> None:
    stored(api.post(JOBS, job(unique)))
    assert api.delete(f"{JOBS}/{unique}", {"propagationPolicy": policy}).status == 200
    left = api.get(f"{JOBS}/{unique}")

    assert left.status == (404 if finalizers is None else 200)
    assert left.body["metadata"].get("finalizers") == finalizers


def test_a_propagation_policy_that_is_not_known_is_refused(api: RawApi, unique: str) -> None:
    stored(api.post(JOBS, job(unique)))
    answer = api.delete(f"{JOBS}/{unique}", propagationPolicy="Sideways")

    assert causes(answer) == [
        'propagationPolicy: Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil"'
    ]


DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


@pytest.mark.parametrize(
    ("policy", "replaced"),
    [({}, "TerminatingOrFailed"), ({"podFailurePolicy": {"rules": [DISRUPTED]}}, "Failed")],
)
def test_a_job_with_a_policy_for_failed_pods_replaces_what_has_ended(
    api: RawApi, unique: str, policy: dict[str, object], replaced: str
) -> None:
    """Finding D1: a pod that is being evicted is not replaced before it has ended."""
    made = stored(api.post(JOBS, job(unique, **policy)))

    assert made["spec"]["podReplacementPolicy"] == replaced


REPLICA_SETS = "/apis/apps/v1/namespaces/default/replicasets"


def test_a_new_replica_set_wants_one_pod_and_keeps_its_selector(api: RawApi, unique: str) -> None:
    """Finding D1."""
    labels = {"app": unique}
    template = {"metadata": {"labels": labels}, "spec": job(unique)["spec"]["template"]["spec"]}
    template["spec"]["restartPolicy"] = "Always"
    body = {"metadata": {"name": unique}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    made = stored(api.post(REPLICA_SETS, body))
    other = api.patch(
        f"{REPLICA_SETS}/{unique}", MERGE_PATCH, {"spec": {"selector": {"matchLabels": {"app": "b"}}}}
    )
    scaled = stored(api.patch(f"{REPLICA_SETS}/{unique}", MERGE_PATCH, {"spec": {"replicas": 0}}))

    assert (made["spec"]["replicas"], made["status"]) == (1, {"replicas": 0})
    assert refusal(other) == (422, "Invalid")
    assert "spec.selector" in {each.partition(":")[0] for each in causes(other)}
    assert scaled["metadata"]["generation"] == 2


def test_a_replica_set_selects_the_pods_of_its_template(api: RawApi, unique: str) -> None:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": job(unique)["spec"]["template"]["spec"]}
    body = {
        "metadata": {"name": unique},
        "spec": {"selector": {"matchLabels": {"app": "b"}}, "template": template},
    }

    assert "spec.template.metadata.labels" in {
        each.partition(":")[0] for each in causes(api.post(REPLICA_SETS, body))
    }
