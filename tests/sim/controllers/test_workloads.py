"""The simulated controllers of Jobs and ReplicaSets: the number of pods, and the effect of failed ones."""

from collections.abc import Iterator
from typing import Any

import pytest

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.controllers import ControllerManager, ControllerSettings
from gpuvitals_sim.controllers.job_indexes import parsed, written
from gpuvitals_sim.controllers.jobs import FINALIZER
from support.dra_objects import eventually

Json = dict[str, Any]
JOBS, REPLICA_SETS = "jobs.batch", "replicasets.apps"


@pytest.fixture
def client() -> Iterator[InProcessClient]:
    """A cluster with running controllers; none of them may have failed when the test ends."""
    api = Api()
    settings = ControllerSettings(job_backoff_seconds=0.01)
    with ControllerManager(InProcessClient(api, "controllers"), settings=settings) as manager:
        yield InProcessClient(api, "test")
    assert manager.failures == []


def job(client: InProcessClient, name: str = "train", **spec: Any) -> Json:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}}
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}
    return client.create(JOBS, body)


def live(client: InProcessClient) -> list[Json]:
    """The pods that have neither ended nor are being deleted, by name."""
    found = [
        each
        for each in client.list("pods", "default")
        if each["status"].get("phase") not in ("Succeeded", "Failed")
        and "deletionTimestamp" not in each["metadata"]
    ]
    return sorted(found, key=lambda each: str(each["metadata"]["name"]))


def pods(client: InProcessClient, count: int) -> list[Json]:
    return eventually(lambda: found if len(found := live(client)) == count else None, f"{count} running pods")


def end(client: InProcessClient, pod: Json, code: int, *conditions: Json) -> None:
    """As a kubelet would write it."""
    state = {"name": "main", "state": {"terminated": {"exitCode": code}}, "ready": False, "restartCount": 0}
    status = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{**state, "image": "i", "imageID": ""}],
        "conditions": list(conditions),
    }
    client.patch("pods", ("default", pod["metadata"]["name"]), {"status": status}, subresource="status")


def status(client: InProcessClient, name: str = "train") -> Json:
    found: Json = client.get(JOBS, name, "default").get("status") or {}
    return found


def ended(client: InProcessClient, kind: str) -> Json:
    """The job's condition of that type, once it has it."""
    return eventually(
        lambda: next((each for each in status(client).get("conditions") or () if each["type"] == kind), None),
        f"condition {kind}",
    )


def test_a_job_runs_its_pods_to_completion(client: InProcessClient) -> None:
    """Finding D1: two at a time, three in all."""
    made = job(client, parallelism=2, completions=3)
    first, second = pods(client, 2)
    owner = first["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["controller"]) == (made["metadata"]["uid"], True)
    assert first["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "train"
    assert first["metadata"]["finalizers"] == [FINALIZER]
    end(client, first, 0)
    end(client, second, 0)
    (third,) = pods(client, 1)
    end(client, third, 0)

    assert ended(client, "Complete")["reason"] == "CompletionsReached"
    done = status(client)
    assert (done["succeeded"], done.get("active"), done["terminating"]) == (3, None, 0)
    assert all(not each["metadata"].get("finalizers") for each in client.list("pods", "default"))


def test_a_failed_pod_is_replaced_until_the_limit(client: InProcessClient) -> None:
    """Finding D1: `backoffLimit` retries, and then the Job has failed."""
    job(client, backoffLimit=1)
    for _ in range(2):
        (running,) = pods(client, 1)
        end(client, running, 1)

    assert ended(client, "Failed")["reason"] == "BackoffLimitExceeded"
    assert status(client)["failed"] == 2
    assert live(client) == []


DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
RULES = [
    {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [7]}},
]


def test_a_disrupted_pod_costs_no_attempt(client: InProcessClient) -> None:
    """Finding D1: podFailurePolicy, action Ignore; a pod that is being deleted is replaced once it has ended."""
    job(client, backoffLimit=0, podFailurePolicy={"rules": RULES})
    (running,) = pods(client, 1)
    client.patch(
        "pods",
        ("default", running["metadata"]["name"]),
        {"spec": {}, "status": {"conditions": [DISRUPTED]}},
        subresource="status",
    )
    end(client, running, 137, DISRUPTED)
    (again,) = eventually(
        lambda: (
            found
            if (found := live(client)) and found[0]["metadata"]["uid"] != running["metadata"]["uid"]
            else None
        ),
        "a replacement",
    )

    assert "failed" not in status(client)
    assert again["metadata"]["name"] != running["metadata"]["name"]


def test_an_exit_code_of_the_policy_fails_the_job_at_once(client: InProcessClient) -> None:
    """Finding D1: podFailurePolicy, action FailJob, with the words of the real controller."""
    job(client, parallelism=2, completions=2, backoffLimit=6, podFailurePolicy={"rules": RULES})
    first, _ = pods(client, 2)
    end(client, first, 42)

    found = ended(client, "FailureTarget")
    assert found["reason"] == "PodFailurePolicy"
    assert found["message"] == (
        f"Container main for pod default/{first['metadata']['name']} failed with exit code 42 matching FailJob rule at "
        "index 0"
    )
    assert eventually(lambda: not live(client), "no pod runs")


def test_an_indexed_job_completes_each_index_once(client: InProcessClient) -> None:
    job(client, parallelism=2, completions=3, completionMode="Indexed")
    first, second = pods(client, 2)
    assert [
        each["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        for each in (first, second)
    ] == [
        "0",
        "1",
    ]
    assert first["spec"]["hostname"] == "train-0"
    end(client, second, 1)
    first, second = pods(client, 2)
    assert second["spec"]["hostname"] == "train-1"
    for each in (first, second):
        end(client, each, 0)
    (last,) = pods(client, 1)
    assert last["spec"]["hostname"] == "train-2"
    end(client, last, 0)

    ended(client, "Complete")
    assert status(client)["completedIndexes"] == "0-2"
    assert written(parsed("0-2,5,7-8")) == "0-2,5,7-8"


def test_a_suspended_job_has_no_pods_and_a_deleted_one_leaves_none(client: InProcessClient) -> None:
    made = job(client)
    pods(client, 1)
    client.patch(JOBS, ("default", "train"), {"spec": {"suspend": True}})
    assert eventually(lambda: not live(client), "no pod runs")
    client.patch(JOBS, ("default", "train"), {"spec": {"suspend": False}})
    pods(client, 1)
    options = DeleteOptions(uid=made["metadata"]["uid"], propagation="Background")
    client.delete(JOBS, "train", "default", options=options)

    assert eventually(lambda: not client.list("pods", "default"), "no pod is left")


def test_a_finished_job_goes_when_its_time_is_over(client: InProcessClient) -> None:
    job(client, ttlSecondsAfterFinished=0)
    (running,) = pods(client, 1)
    end(client, running, 0)

    assert eventually(lambda: not client.list(JOBS, "default"), "the job is gone")


def replica_set(client: InProcessClient, replicas: int) -> Json:
    labels = {"app": "serve"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return client.create(REPLICA_SETS, {"metadata": {"name": "serve", "namespace": "default"}, "spec": spec})


def test_a_replica_set_replaces_what_is_evicted(client: InProcessClient) -> None:
    """Finding D1: drained pods come back."""
    replica_set(client, 3)
    gone = pods(client, 3)[0]["metadata"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": gone["name"], "namespace": "default"},
    }
    client.create("pods", body, subresource="eviction")

    assert all(each["metadata"]["uid"] != gone["uid"] for each in pods(client, 3))
    seen = eventually(
        lambda: (
            found
            if (found := client.get(REPLICA_SETS, "serve", "default")["status"])["replicas"] == 3
            else None
        ),
        "three replicas",
    )
    assert seen["fullyLabeledReplicas"] == 3


def test_a_replica_set_is_scaled_and_deleted_with_its_pods(client: InProcessClient) -> None:
    made = replica_set(client, 3)
    pods(client, 3)
    client.patch(REPLICA_SETS, ("default", "serve"), {"spec": {"replicas": 1}})
    pods(client, 1)
    options = DeleteOptions(uid=made["metadata"]["uid"], propagation="Background")
    client.delete(REPLICA_SETS, "serve", "default", options=options)

    assert eventually(lambda: not live(client), "no pod is left")
