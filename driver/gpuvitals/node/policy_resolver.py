"""Resolves the policy of each GPU from the cluster's rules, the Node's labels, and the agent's own file below them.

Rules and labels arrive on the threads of their watches; the agent reads the result in each turn. The last valid input
is on disk, for an agent that starts while the API server is unreachable, or while a policy is invalid.
"""

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from gpuvitals.durable import DurableFile, DurableFileError
from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.health.policy_pairs import as_object_fields, poll_interval_conflict
from gpuvitals.inventory.event import EventSink
from gpuvitals.inventory.policy_match import (
    EffectivePolicy,
    PolicyMatch,
    PolicyRule,
    effective_policy,
    matched_policy,
)
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.events import policy_ambiguous, policy_refused
from gpuvitals.node.policy_memory import SCHEMA, KnownPolicies, read_policies
from gpuvitals.node.ports import PublisherRole
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverPorts:
    """The parts that the resolver uses; none of them may block.

    `queue` is woken when a policy may have changed; `storage` gets the result of each save.
    """

    queue: SignalQueue
    events: EventSink
    role: PublisherRole
    storage: StorageReport


class PolicyResolver:
    """Thread safe, except for `effective`, which belongs to the agent's thread."""

    def __init__(self, base: Policy, path: Path, ports: ResolverPorts, poll_seconds: float) -> None:
        """`poll_seconds` is the agent's poll interval: a policy that contradicts it is refused."""
        self._base = base
        self._poll_seconds = poll_seconds
        self._file = DurableFile(path)
        self._ports = ports
        self._lock = threading.Lock()
        self._known = KnownPolicies()
        self._saved = self._known
        self._resolved: tuple[KnownPolicies, tuple[Gpu, ...]] | None = None
        self._effective: dict[GpuUuid, EffectivePolicy] = {}
        self._listed = False
        self._has_memory = False
        self._is_newer = False

    @property
    def is_settled(self) -> bool:
        """Whether the policies are known: from memory, or from the API server."""
        with self._lock:
            return self._has_memory or (self._listed and self._known.labels is not None)

    def load(self) -> None:
        """Restores the policies of an earlier agent. An unreadable one is dropped and logged."""
        loaded = self._file.load(patient=True)
        trouble = loaded.recovered
        if loaded.payload is not None:
            try:
                self._known, unread = read_policies(loaded.payload)
                self._saved = self._known
                self._known = replace(
                    self._known,
                    rules={
                        name: rule for name, rule in self._known.rules.items() if not self._conflict(rule)
                    },
                    choices={
                        uuid: chosen
                        for uuid, chosen in self._known.choices.items()
                        if chosen.rule is None or not self._conflict(chosen.rule)
                    },
                )
                self._has_memory = True
                # A file of a newer version is never overwritten; the API server has its content.
                self._is_newer = self._known.schema > SCHEMA
                trouble = trouble or "; ".join(f"{self._file.path}: {each}" for each in unread)
            except msgspec.DecodeError as error:
                trouble = f"{self._file.path}: {error}"
        if trouble:
            log.warning("policies recovered", extra=keys(reason=trouble))

    def known(self, name: str, rule: PolicyRule | None) -> None:
        """Takes the stored state of a policy; None if it was deleted. One that contradicts the agent's own values is refused."""
        conflict = "" if rule is None else self._conflict(rule)
        if conflict:
            self.refused(name, conflict)
            return
        with self._lock:
            rules = {key: each for key, each in self._known.rules.items() if key != name}
            if rule is not None:
                rules[name] = rule
            self._known = replace(self._known, rules=rules)
        self._ports.queue.wake()

    def refused(self, name: str, why: str) -> None:
        """Reports an invalid policy. The last valid version of it, if there is one, stays in force."""
        with self._lock:
            has_fallback = name in self._known.rules
        log.error("policy refused", extra=keys(policy=name, reason=why, last_good=has_fallback))
        self._ports.events.emit(policy_refused(name, why, has_fallback=has_fallback))

    def listed(self) -> None:
        """Records that all policies were listed."""
        with self._lock:
            self._listed = True
        self._ports.queue.wake()

    def labels(self, labels: Mapping[str, str]) -> None:
        """Takes the Node's present labels."""
        with self._lock:
            if self._known.labels == labels:
                return
            self._known = replace(self._known, labels=dict(labels))
        self._ports.queue.wake()

    def effective(self, gpus: Collection[Gpu]) -> Mapping[GpuUuid, EffectivePolicy]:
        """The policy of each of these GPUs. Saves changed inputs."""
        listed = tuple(gpus)
        with self._lock:
            known = self._known
        if self._resolved is None or self._resolved[0] is not known or self._resolved[1] != listed:
            known = self._match(known, listed)
            self._resolved = (known, listed)
        if known != self._saved and not self._is_newer and self._ports.role.publishing():
            self._save(known)
        return self._effective

    def _match(self, known: KnownPolicies, gpus: tuple[Gpu, ...]) -> KnownPolicies:
        """Matches the policies against every GPU. Earlier matches of forgotten GPUs are dropped.

        An agent without GPUs keeps all matches until the driver has listed its GPUs.
        """
        matches: dict[GpuUuid, PolicyMatch] = {}
        for gpu in gpus:
            before = known.choices.get(gpu.uuid)
            now = matched_policy(known.rules.values(), known.labels or {}, gpu, before)
            matches[gpu.uuid] = now
            if now.tied and (before is None or before.tied != now.tied):
                self._ports.events.emit(policy_ambiguous(gpu, now))
            if before is None or before.rule != now.rule:
                name = now.rule.name if now.rule is not None else ""
                log.info("policy in force", extra=keys(gpu=gpu.uuid, policy=name or "none"))
        self._effective = {uuid: effective_policy(each, self._base) for uuid, each in matches.items()}
        choices = matches or known.choices
        with self._lock:
            is_newest = self._known is known
            self._known = replace(self._known, choices=choices)
            return self._known if is_newest else replace(known, choices=choices)

    def _conflict(self, rule: PolicyRule) -> str:
        """The contradiction between the rule and the agent's own values, as text; empty if there is none."""
        try:
            values = asdict(policy_with(dict(rule.health), self._base))
        except ValueError as error:
            return as_object_fields(f"spec.health: {error}", asdict(self._base))
        conflict = poll_interval_conflict(values, self._poll_seconds)
        return as_object_fields(f"spec.health: {conflict}", values) if conflict else ""

    def _save(self, known: KnownPolicies) -> None:
        try:
            self._file.save(msgspec.json.encode(known))
        except DurableFileError as error:
            self._ports.storage.failed(self._file.path, error)
            return
        self._ports.storage.saved(self._file.path)
        self._saved = known
