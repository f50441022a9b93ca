"""Jobs: creates pods until enough have succeeded or too many have failed.

Place in the chain: between a user's Job and the scheduler. Pods have a finalizer until they are counted, so that no
failure is lost with an evicted pod. Success policies and back-off per index are not simulated.
Source: kubernetes/kubernetes pkg/controller/job/job_controller.go and backoff_utils.go.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig, parse_time, timestamp
from gpuvitals_sim.controllers.job_indexes import index_of, next_index, parsed, with_index, written
from gpuvitals_sim.controllers.pod_failure_policy import FailureAction, failure_decision
from gpuvitals_sim.controllers.pod_template import owned_by, pod_of
from gpuvitals_sim.controllers.pods import is_finished, is_ready

JOBS = "jobs.batch"
FINALIZER = "batch.kubernetes.io/job-tracking"
_MOST_BACKOFF_SECONDS = 600.0


@dataclass(slots=True)
class _Pods:
    """The pods of one job: active, terminating, and ended but not counted yet."""

    active: list[Obj] = field(default_factory=list)
    terminating: list[Obj] = field(default_factory=list)
    ended: list[Obj] = field(default_factory=list)


class JobController:
    """Level-triggered: every pass reads every job. `backoff_seconds` is the wait after the first failure in a row."""

    kinds = frozenset(("pods", JOBS))

    def __init__(self, client: InProcessClient, *, backoff_seconds: float = 10.0) -> None:
        self._client = client
        self._backoff_seconds = backoff_seconds
        self._counted: set[str] = set()
        self._retry_at: dict[str, tuple[int, datetime]] = {}

    def reconcile(self) -> float | None:
        """Counts ended pods, then creates or deletes pods. Returns seconds until the next pass, or None."""
        if not self._client.serves(JOBS):
            return None
        pods = self._client.peek("pods")
        waits = [self._sync(clone(job), owned_by(job, pods)) for job in self._client.peek(JOBS)]
        self._release_orphans(pods)
        return min((wait for wait in waits if wait is not None), default=None)

    def _sync(self, job: Obj, pods: list[Obj]) -> float | None:
        if "deletionTimestamp" in job["metadata"]:
            for pod in pods:
                self._untrack(pod)
            return None
        before = clone(job.get("status") or {})
        status = job.setdefault("status", {})
        found = _sorted(job, pods)
        if _is_over(status):
            self._delete(found.active)
            for pod in pods:
                self._untrack(pod)
            return self._expire(job)
        status.setdefault("startTime", timestamp())
        self._count(job, found)
        wait = self._decide(job, found)
        _describe(status, found)
        if status != before:
            self._client.update_status(JOBS, job)
        for pod in found.ended:
            self._counted.add(pod["metadata"]["uid"])
            self._untrack(pod)
        return wait

    def _count(self, job: Obj, found: _Pods) -> None:
        """Adds the pods that have ended since the last pass to the job's counters."""
        status = job["status"]
        for pod in found.ended:
            if pod["metadata"]["uid"] in self._counted:
                continue
            if dig(pod, "status", "phase") == "Succeeded":
                self._succeeded(job, pod)
                self._retry_at.pop(job["metadata"]["uid"], None)
                continue
            decision = failure_decision(job, pod)
            if decision.action is FailureAction.IGNORE:
                continue
            status["failed"] = status.get("failed", 0) + 1
            self._back_off(job)
            if decision.action is FailureAction.FAIL_JOB and not _condition(status, "FailureTarget"):
                _set(status, "FailureTarget", "PodFailurePolicy", decision.message)

    @staticmethod
    def _succeeded(job: Obj, pod: Obj) -> None:
        """Each index counts once."""
        status, index = job["status"], index_of(pod)
        if job["spec"].get("completionMode") != "Indexed":
            status["succeeded"] = status.get("succeeded", 0) + 1
        elif index is not None:
            done = parsed(status.get("completedIndexes", "")) | {index}
            status["completedIndexes"], status["succeeded"] = written(done), len(done)

    def _decide(self, job: Obj, found: _Pods) -> float | None:
        """Ends the job, or scales its pods to the wanted number."""
        status, spec = job["status"], job["spec"]
        if status.get("failed", 0) > spec["backoffLimit"] and not _condition(status, "FailureTarget"):
            _set(
                status, "FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
            )
        left = _deadline_left(job)
        if left is not None and left <= 0 and not _condition(status, "FailureTarget"):
            _set(status, "FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
        failing = _condition(status, "FailureTarget")
        if failing is not None:
            self._delete(found.active)
            if not found.active and not found.terminating:
                _set(status, "Failed", failing["reason"], failing["message"])
            return None
        if _is_complete(spec, status, found):
            self._delete(found.active)
            if not found.active and not found.terminating:
                reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
                _set(status, "SuccessCriteriaMet", reason, message)
                _set(status, "Complete", reason, message)
                status["completionTime"] = timestamp()
            return None
        return _least(left, self._scale(job, found))

    def _scale(self, job: Obj, found: _Pods) -> float | None:
        wanted = _wanted(job["spec"], job["status"])
        taken = len(found.active)
        if job["spec"].get("podReplacementPolicy") == "Failed":
            # With this policy a pod is replaced when it has ended, not already when it is being deleted.
            taken += len(found.terminating)
        if taken > wanted:
            self._delete(found.active[wanted - taken :])
            return None
        wait = self._wait(job)
        if wait > 0 and taken < wanted:
            return wait
        for _ in range(wanted - taken):
            pod = _new_pod(job, found)
            if pod is not None:
                found.active.append(self._client.create("pods", pod))
        return None

    def _back_off(self, job: Obj) -> None:
        uid = job["metadata"]["uid"]
        failures = self._retry_at.get(uid, (0, datetime.now(UTC)))[0] + 1
        seconds = min(self._backoff_seconds * 2 ** min(failures - 1, 20), _MOST_BACKOFF_SECONDS)
        self._retry_at[uid] = failures, datetime.now(UTC) + timedelta(seconds=seconds)

    def _wait(self, job: Obj) -> float:
        known = self._retry_at.get(job["metadata"]["uid"])
        return 0.0 if known is None else (known[1] - datetime.now(UTC)).total_seconds()

    def _expire(self, job: Obj) -> float | None:
        """Deletes a finished job after its `ttlSecondsAfterFinished`. Returns the seconds left, or None."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        ends = [entry for entry in job["status"]["conditions"] if entry["type"] in ("Complete", "Failed")]
        if seconds is None or not ends:
            return None
        over = parse_time(ends[0]["lastTransitionTime"]) + timedelta(seconds=seconds)
        left = (over - datetime.now(UTC)).total_seconds()
        if left > 0:
            return left
        metadata = job["metadata"]
        options = DeleteOptions(uid=metadata["uid"], propagation="Background")
        self._client.delete(JOBS, metadata["name"], metadata["namespace"], options=options)
        return None

    def _delete(self, pods: list[Obj]) -> None:
        for pod in pods:
            metadata = pod["metadata"]
            options = DeleteOptions(uid=metadata["uid"])
            self._client.delete("pods", metadata["name"], metadata["namespace"], options=options)

    def _release_orphans(self, pods: list[Obj]) -> None:
        """Removes the finalizer of pods whose job is deleted, since no job counts them."""
        jobs = {job["metadata"]["uid"] for job in self._client.peek(JOBS)}
        for pod in pods:
            owners = pod["metadata"].get("ownerReferences") or ()
            if not any(each.get("uid") in jobs for each in owners):
                self._untrack(pod)

    def _untrack(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER in finalizers:
            left = [name for name in finalizers if name != FINALIZER]
            patch = {"metadata": {"uid": metadata["uid"], "finalizers": left or None}}
            self._client.patch("pods", (metadata["namespace"], metadata["name"]), patch)


def _new_pod(job: Obj, found: _Pods) -> Obj | None:
    """The next pod of the job; None if every index is completed or has a pod."""
    pod = pod_of(job, "batch/v1", "Job")
    pod["metadata"]["finalizers"] = [*pod["metadata"].get("finalizers", ()), FINALIZER]
    if job["spec"].get("completionMode") != "Indexed":
        return pod
    done = parsed(job["status"].get("completedIndexes", ""))
    index = next_index(int(job["spec"]["completions"]), done, (*found.active, *found.terminating))
    return None if index is None else with_index(pod, job["metadata"]["name"], index)


def _sorted(job: Obj, pods: list[Obj]) -> _Pods:
    found = _Pods()
    replaced_at_once = job["spec"].get("podReplacementPolicy") != "Failed"
    for pod in pods:
        tracked = FINALIZER in (pod["metadata"].get("finalizers") or ())
        going = "deletionTimestamp" in pod["metadata"]
        # A pod that is deleted before it is bound never reaches an end phase.
        unstarted = going and not pod["spec"].get("nodeName")
        if is_finished(pod) or unstarted or (going and replaced_at_once and tracked):
            found.ended += [pod] if tracked else []
        if going and not is_finished(pod) and not unstarted:
            found.terminating.append(pod)
        elif not going and not is_finished(pod):
            found.active.append(pod)
    return found


def _wanted(spec: Obj, status: Obj) -> int:
    if spec.get("suspend"):
        return 0
    parallelism, succeeded = int(spec["parallelism"]), int(status.get("succeeded", 0))
    completions = spec.get("completions")
    if completions is None:
        return parallelism if succeeded == 0 else 0
    return max(0, min(parallelism, int(completions) - succeeded))


def _is_complete(spec: Obj, status: Obj, found: _Pods) -> bool:
    completions, succeeded = spec.get("completions"), status.get("succeeded", 0)
    if completions is None:
        return succeeded > 0 and not found.active
    return bool(succeeded >= completions)


def _deadline_left(job: Obj) -> float | None:
    seconds = job["spec"].get("activeDeadlineSeconds")
    if seconds is None or job["spec"].get("suspend"):
        return None
    until = parse_time(job["status"]["startTime"]) + timedelta(seconds=seconds)
    return (until - datetime.now(UTC)).total_seconds()


def _describe(status: Obj, found: _Pods) -> None:
    numbers = {
        "active": len(found.active),
        "ready": sum(map(is_ready, found.active)),
        "terminating": len(found.terminating),
    }
    for name, number in numbers.items():
        if number or name != "active":
            status[name] = number
        else:
            status.pop(name, None)


def _condition(status: Obj, name: str) -> Obj | None:
    entries = status.get("conditions") or ()
    return next((each for each in entries if each["type"] == name and each["status"] == "True"), None)


def _is_over(status: Obj) -> bool:
    return _condition(status, "Complete") is not None or _condition(status, "Failed") is not None


def _set(status: Obj, name: str, reason: str, message: str) -> None:
    now = timestamp()
    entry = {
        "type": name,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": now,
        "lastTransitionTime": now,
    }
    status["conditions"] = [*(status.get("conditions") or ()), entry]


def _least(*waits: float | None) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)
