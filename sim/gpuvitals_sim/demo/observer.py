"""Checks one expectation on the cluster and describes the observed state.

Place in the chain: the scenario runner polls it. Its sources are the API server's objects and request log and the
kubelets' registrations, never the agents.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from gpuvitals_sim.apiserver import RequestFacts
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.cluster import SimulatedCluster
from gpuvitals_sim.demo import api_objects
from gpuvitals_sim.demo.objects import CLAIM, NAMESPACE
from gpuvitals_sim.scenario.actions import OnGpu
from gpuvitals_sim.scenario.expectations import (
    ClaimSeen,
    Condition,
    DeviceSeen,
    PodSeen,
    RegisteredSeen,
    Siblings,
    SlicesSeen,
    Subject,
    WritesSeen,
)

SLICES = "resourceslices.resource.k8s.io"
CLAIMS = "resourceclaims.resource.k8s.io"
_AGENT = "gpuvitals/"
"""The prefix of the real agent's user agent; the simulated parts have others."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one check."""

    holds: bool
    observed: str


class Observer:
    """Used by the scenario runner's thread only. `mark` stores the base for `siblings` and `writes`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._marked_at = 0.0
        self._marked: dict[str, dict[str, str]] = {}

    def mark(self) -> None:
        """Stores the slices, and counts writes from now on."""
        self._marked_at = time.monotonic()
        self._marked = {node.name: self._encoded(node.name) for node in self._cluster.nodes}

    def ended(self) -> str:
        """The agents that have ended by themselves, and how; empty if none has."""
        return "; ".join(filter(None, (node.agent.ended for node in self._cluster.nodes)))

    def observe(self, subject: Subject) -> Observation:
        """The present state of the subject, and whether it is as expected."""
        match subject:
            case DeviceSeen():
                return self._device(subject)
            case PodSeen():
                return self._pod(subject)
            case ClaimSeen():
                return self._claim(subject)
            case Siblings():
                return self._siblings(subject)
            case SlicesSeen():
                return self._slices(subject)
            case RegisteredSeen(node=node):
                return self._registered(node)
            case WritesSeen():
                return self._writes(subject)
            case _:
                assert_never(subject)

    def _device(self, wanted: DeviceSeen) -> Observation:
        node, name = self._address(wanted)
        facts = api_objects.device_facts(self._devices(node).get(name), self._cluster.naming)
        marks = [f"{key}={value}:{effect}" for key, value, effect in facts.taints]
        kinds = {key for key, _, _ in facts.taints}
        holds = (
            _fits(wanted.published, facts.published)
            and _fits(wanted.out, facts.out)
            and _fits(wanted.state, facts.state)
            and _fits(wanted.score, facts.score)
            and (wanted.score_above is None or facts.score > wanted.score_above)
            and (wanted.score_at_most is None or facts.score <= wanted.score_at_most)
            and _fits(wanted.health_class, facts.health_class)
            and _fits(wanted.reason, facts.reason)
            and (wanted.taint is None or kinds == ({wanted.taint} - {"none"}))
        )
        if not facts.published:
            return Observation(holds, "not in the slice")
        service = "out of service" if facts.out else "in service"
        health = f"{facts.state}, score {facts.score}, class {facts.health_class}, reason {facts.reason}"
        return Observation(holds, f"{service}, {health}, taint {', '.join(marks) or 'none'}")

    def _pod(self, wanted: PodSeen) -> Observation:
        pod = self._cluster.client.find("pods", wanted.name, NAMESPACE)
        if pod is None:
            return Observation(bool(wanted.gone), "no such pod")
        status = pod.get("status") or {}
        node = pod["spec"].get("nodeName", "")
        held = api_objects.held_devices(self._claim_of(pod))
        health = api_objects.reported_health(pod)
        shown = (
            api_objects.condition(status.get("conditions"), wanted.condition.type) if wanted.condition else {}
        )
        holds = (
            not wanted.gone
            and _fits(wanted.phase, status.get("phase"))
            and (wanted.node is None or node == self._cluster.nodes[wanted.node].name)
            and (wanted.device is None or held == (self._address(wanted.device),))
            and (wanted.not_device is None or (bool(held) and self._address(wanted.not_device) not in held))
            and (wanted.condition is None or _meets(shown, wanted.condition))
            and (wanted.health is None or (bool(health) and all(one == wanted.health for one, _ in health)))
            and (wanted.health_message is None or any(wanted.health_message in text for _, text in health))
        )
        parts = [str(status.get("phase", "no phase"))]
        parts += [f"on {node}"] if node else []
        parts += ["with " + ", ".join(device for _, device in held)] if held else []
        parts += [api_objects.shown_condition(shown)] if wanted.condition else []
        if wanted.health or wanted.health_message:
            parts.append(
                "the kubelet reports " + ("; ".join(_health_text(*one) for one in health) or "no device")
            )
        return Observation(holds, ", ".join(parts))

    def _claim(self, wanted: ClaimSeen) -> Observation:
        pod = self._cluster.client.find("pods", wanted.pod, NAMESPACE)
        claim = self._claim_of(pod) if pod is not None else None
        if claim is None:
            return Observation(False, "no such claim")
        entries = [
            one
            for one in (claim.get("status") or {}).get("devices") or ()
            if one["driver"] == self._cluster.naming.driver
        ]
        shown = [api_objects.condition(one.get("conditions"), wanted.condition.type) for one in entries]
        holds = bool(shown) and all(_meets(one, wanted.condition) for one in shown)
        return Observation(
            holds, "; ".join(api_objects.shown_condition(one) for one in shown) or "no entry of this driver"
        )

    def _siblings(self, wanted: Siblings) -> Observation:
        node, name = self._address(wanted)
        before = {key: value for key, value in self._marked[node].items() if key != name}
        after = {key: value for key, value in self._encoded(node).items() if key != name}
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        if changed:
            return Observation(False, f"changed: {', '.join(changed)}")
        return Observation(True, f"{len(after)} devices, byte for byte as before")

    def _slices(self, wanted: SlicesSeen) -> Observation:
        count = len(self._devices(self._cluster.nodes[wanted.node].name))
        return Observation(count == wanted.devices, f"{count} devices")

    def _registered(self, node: int) -> Observation:
        """Registered since the agent's last start: the kubelet may still have a registration of the process before."""
        where = self._cluster.nodes[node]
        ours = [
            one
            for one in where.kubelet.plugins()
            if one.driver == self._cluster.naming.driver
            and one.connected
            and one.registered_at >= where.agent.started_at
        ]
        if not ours:
            return Observation(False, "not registered since the agent started")
        return Observation(True, f"connected, DRA {ours[-1].dra_version}, health {ours[-1].health_version}")

    def _writes(self, wanted: WritesSeen) -> Observation:
        node = None if wanted.node is None else self._cluster.nodes[wanted.node].name
        count = sum(_is_of(entry, wanted.resource, node) for entry in self._agents_writes())
        holds = (wanted.at_most is None or count <= wanted.at_most) and (
            wanted.at_least is None or count >= wanted.at_least
        )
        return Observation(holds, "1 write" if count == 1 else f"{count} writes")

    def _agents_writes(self) -> Iterator[RequestFacts]:
        for entry in self._cluster.server.requests.writes():
            is_stored = entry.status < 300 and "dryRun=" not in entry.query
            if entry.at_monotonic >= self._marked_at and entry.user_agent.startswith(_AGENT) and is_stored:
                yield entry

    def _claim_of(self, pod: Obj) -> Obj | None:
        name = api_objects.claim_name(pod, CLAIM)
        return self._cluster.client.find(CLAIMS, name, NAMESPACE) if name else None

    def _devices(self, node: str) -> dict[str, Obj]:
        slices = self._cluster.client.list(SLICES, fields=f"spec.nodeName={node}")
        return {one["name"]: one for one in api_objects.devices_of(slices, node, self._cluster.naming)}

    def _encoded(self, node: str) -> dict[str, str]:
        return {name: json.dumps(device, sort_keys=True) for name, device in self._devices(node).items()}

    def _address(self, gpu: OnGpu) -> tuple[str, str]:
        node = self._cluster.nodes[gpu.node]
        return node.name, node.device(gpu.gpu)


def _fits(wanted: object, found: object) -> bool:
    return wanted is None or wanted == found


def _meets(found: Obj, wanted: Condition) -> bool:
    return (
        found.get("status") == wanted.status
        and _fits(wanted.reason, found.get("reason"))
        and (wanted.message is None or wanted.message in found.get("message", ""))
    )


def _health_text(health: str, message: str) -> str:
    return message if message.startswith(health) else f"{health} {message}".strip()


def _is_of(entry: RequestFacts, resource: str, node: str | None) -> bool:
    if resource != "/".join(part for part in (entry.resource, entry.subresource) if part):
        return False
    return node is None or node in _nodes_named(entry)


def _nodes_named(entry: RequestFacts) -> set[str]:
    """The nodes in a body: a slice's own, or the pools of a claim's device entries."""
    body = json.loads(entry.body) if entry.body else {}
    spec, status = body.get("spec") or {}, body.get("status") or {}
    return {spec.get("nodeName", "")} | {one.get("pool", "") for one in status.get("devices") or ()}
