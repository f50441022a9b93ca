"""The indexes of an Indexed Job: completed ones, those of pods, and the next one. Pure.

Place in the chain: used by jobs. Source: kubernetes/kubernetes pkg/controller/job/indexed_job_utils.go.
"""

from collections.abc import Iterable

from gpuvitals_sim.apiserver.json_types import Obj

INDEX = "batch.kubernetes.io/job-completion-index"
_VARIABLE = "JOB_COMPLETION_INDEX"


def parsed(text: str) -> set[int]:
    """The indexes of a `status.completedIndexes` such as `0-2,5`."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def written(indexes: Iterable[int]) -> str:
    """The indexes in the format of `status.completedIndexes`; two in a row are a range."""
    parts: list[tuple[int, int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1] = parts[-1][0], index
        else:
            parts.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def index_of(pod: Obj) -> int | None:
    """The pod's index, None if it has none."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else None


def next_index(completions: int, done: set[int], pods: Iterable[Obj]) -> int | None:
    """The lowest index that is neither done nor taken by one of the pods."""
    taken = done | {index for pod in pods if (index := index_of(pod)) is not None}
    return next((index for index in range(completions) if index not in taken), None)


def with_index(pod: Obj, job_name: str, index: int) -> Obj:
    """The pod with the name, host name, label, annotation and environment variable of that index."""
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["generateName"] = f"{job_name}-{index}-"
    for name in ("labels", "annotations"):
        metadata[name] = {**(metadata.get(name) or {}), INDEX: str(index)}
    spec["hostname"] = f"{job_name}-{index}"
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        container["env"] = [*(container.get("env") or ()), {"name": _VARIABLE, "valueFrom": source}]
    return pod
