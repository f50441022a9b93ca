"""Validates references of a well-formed scenario: devices, pods, readings and policy values must exist.

Place in the chain: after the models, as the last step of loading.
"""

from collections.abc import Iterator
from dataclasses import asdict

from gpuvitals.health.policy import check_values
from gpuvitals.health.policy_pairs import poll_interval_conflict
from gpuvitals_sim.cel import compile_errors
from gpuvitals_sim.hardware.gpu_changes import READINGS
from gpuvitals_sim.hardware.profiles import PROFILES
from gpuvitals_sim.scenario.actions import Claim, CreatePod, Noise, OnGpu, OnNode
from gpuvitals_sim.scenario.expectations import ClaimSeen, Expect, PodSeen, WritesSeen
from gpuvitals_sim.scenario.model import DeletePod, Entry, Nodes, Scenario
from gpuvitals_sim.scenario.types import Model
from gpuvitals_sim.scenario.yaml_document import Place

_POLL_SECONDS = 5.0
"""The poll interval of the demo's agents: the agent's default."""


def impossible(scenario: Scenario) -> Iterator[tuple[Place, str]]:
    """The invalid places, each with its error."""
    yield from _policy(scenario)
    if scenario.nodes.profile not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        yield ("nodes", "profile"), f"profile {scenario.nodes.profile!r} does not exist; there are {known}"
    for place, entry in scenario.entries():
        yield from _readings(place, entry)
        yield from _outside(scenario.nodes, place, entry)
        yield from _selectors(place, entry)
    yield from _unknown_pods(scenario)


def _policy(scenario: Scenario) -> Iterator[tuple[Place, str]]:
    """Errors of policy values that an agent refuses: each alone, then together and with the poll interval."""
    wrong = False
    for name, value in scenario.policy.items():
        try:
            check_values({name: value})
        except ValueError as error:
            wrong = True
            yield ("policy", name), str(error)
    if wrong:
        return
    try:
        unfit = poll_interval_conflict(asdict(scenario.health_policy()), _POLL_SECONDS)
    except ValueError as error:
        unfit = str(error)
    if unfit:
        yield ("policy",), unfit


def _outside(nodes: Nodes, place: Place, model: Model) -> Iterator[tuple[Place, str]]:
    """Errors of node and GPU numbers below `model` that don't exist."""
    if isinstance(model, (OnNode, Noise, CreatePod, PodSeen, WritesSeen)):
        node = model.node
        if node is not None and node >= nodes.count:
            yield (*place, "node"), f"there is no node {node}: nodes are 0 to {nodes.count - 1}"
    if isinstance(model, OnGpu) and model.gpu >= nodes.gpus:
        yield (*place, "gpu"), f"there is no GPU {model.gpu}: GPUs are 0 to {nodes.gpus - 1}"
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Model):
            yield from _outside(nodes, (*place, name), value)


def _readings(place: Place, entry: Entry) -> Iterator[tuple[Place, str]]:
    for name in entry.set.readings if entry.set is not None else ():
        if name not in READINGS:
            known = ", ".join(sorted(READINGS))
            yield (*place, "set", "readings", name), f"reading {name!r} does not exist; there are {known}"


def _selectors(place: Place, entry: Entry) -> Iterator[tuple[Place, str]]:
    if entry.create_pod is None:
        return
    place = (*place, "create_pod", "claim")
    for where, selector in _expressions(entry.create_pod.claim):
        error = compile_errors(selector)
        if error is not None:
            yield (*place, *where), error.splitlines()[0]


def _expressions(claim: Claim) -> Iterator[tuple[Place, str]]:
    if claim.selector is not None:
        yield ("selector",), claim.selector
    for number, choice in enumerate(claim.first_available):
        if choice.selector is not None:
            yield ("first_available", number, "selector"), choice.selector


def _unknown_pods(scenario: Scenario) -> Iterator[tuple[Place, str]]:
    created: set[str] = set()
    for place, entry in scenario.entries():
        match entry.content:
            case CreatePod(name=name):
                created.add(name)
            case DeletePod(name=name) if name not in created:
                yield (*place, "delete_pod"), f"pod {name!r} was not created before"
            case Expect(pod=PodSeen(name=name)) if name not in created:
                yield (*place, "expect", "pod", "name"), f"pod {name!r} was not created before"
            case Expect(claim=ClaimSeen(pod=name)) if name not in created:
                yield (*place, "expect", "claim", "pod"), f"pod {name!r} was not created before"
            case _:
                continue
