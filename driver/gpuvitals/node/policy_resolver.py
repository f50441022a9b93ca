"""Which policy governs each GPU now: the cluster's rules, the node's labels, and the agent's own file beneath them.

Rules and labels come on the threads of those who read them; the agent asks once a turn. What was last good is on disk:
an agent that starts while the API server is away goes by it, and a bad policy never makes it start from zero.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
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
from gpuvitals.node.events import policy_refused, policy_tied
from gpuvitals.node.policy_memory import SCHEMA, KnownPolicies, read_policies
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorPorts:
    """What the governor asks of others; none of them may block.

    `changed`: something may govern otherwise now. `may_save`: of two agents that overlap, this one owns the file.
    `storage` takes how each save ended.
    """

    changed: Callable[[], None]
    events: EventSink
    may_save: Callable[[], bool]
    storage: StorageReport


class PolicyResolver:
    """Thread safe, but for `rules`, which is the agent's thread's."""

    def __init__(self, base: Policy, path: Path, ports: GovernorPorts, poll_seconds: float) -> None:
        """`poll_seconds` is how often the agent reads its GPUs: a policy that it does not fit is refused."""
        self._base = base
        self._poll_seconds = poll_seconds
        self._file = DurableFile(path)
        self._ports = ports
        self._lock = threading.Lock()
        self._known = KnownPolicies()
        self._saved = self._known
        self._answered: tuple[KnownPolicies, tuple[Gpu, ...]] | None = None
        self._rules: dict[GpuUuid, EffectivePolicy] = {}
        self._listed = False
        self._has_memory = False
        self._is_newer = False

    @property
    def is_settled(self) -> bool:
        """Whether it is known what governs: from memory, or from what the API server has said, or has not."""
        with self._lock:
            return self._has_memory or (self._listed and self._known.labels is not None)

    def load(self) -> None:
        """Takes up what an earlier agent kept. A policy that can't be read costs itself, and is told in the log."""
        loaded = self._file.load(patient=True)
        trouble = loaded.recovered
        if loaded.payload is not None:
            try:
                self._known, unread = read_policies(loaded.payload)
                self._saved = self._known
                self._known = replace(
                    self._known,
                    rules={name: rule for name, rule in self._known.rules.items() if not self._misfit(rule)},
                    choices={
                        uuid: chosen
                        for uuid, chosen in self._known.choices.items()
                        if chosen.rule is None or not self._misfit(chosen.rule)
                    },
                )
                self._has_memory = True
                # A newer version's file is left to it: what it holds is read from the API server again.
                self._is_newer = self._known.schema > SCHEMA
                trouble = trouble or "; ".join(f"{self._file.path}: {each}" for each in unread)
            except msgspec.DecodeError as error:
                trouble = f"{self._file.path}: {error}"
        if trouble:
            log.warning("policies recovered", extra=keys(reason=trouble))

    def known(self, name: str, rule: PolicyRule | None) -> None:
        """A policy as it is stored now; None where it is gone. One that does not fit this agent is refused."""
        unfit = "" if rule is None else self._misfit(rule)
        if unfit:
            self.refused(name, unfit)
            return
        with self._lock:
            rules = {key: each for key, each in self._known.rules.items() if key != name}
            if rule is not None:
                rules[name] = rule
            self._known = replace(self._known, rules=rules)
        self._ports.changed()

    def refused(self, name: str, why: str) -> None:
        """A policy that can't be used; the last good one of that name, if there is one, goes on."""
        with self._lock:
            goes_on = name in self._known.rules
        log.error("policy refused", extra=keys(policy=name, reason=why, last_good=goes_on))
        self._ports.events.emit(policy_refused(name, why, goes_on=goes_on))

    def listed(self) -> None:
        """Every policy was told: what is known now is what there is."""
        with self._lock:
            self._listed = True
        self._ports.changed()

    def labels(self, labels: Mapping[str, str]) -> None:
        """The node's labels as they are now."""
        with self._lock:
            if self._known.labels == labels:
                return
            self._known = replace(self._known, labels=dict(labels))
        self._ports.changed()

    def rules(self, gpus: Collection[Gpu]) -> Mapping[GpuUuid, EffectivePolicy]:
        """What governs each of these GPUs. Makes durable what has changed."""
        asked = tuple(gpus)
        with self._lock:
            known = self._known
        if self._answered is None or self._answered[0] is not known or self._answered[1] != asked:
            known = self._choose(known, asked)
            self._answered = (known, asked)
        if known != self._saved and not self._is_newer and self._ports.may_save():
            self._save(known)
        return self._rules

    def _choose(self, known: KnownPolicies, gpus: tuple[Gpu, ...]) -> KnownPolicies:
        """Chooses anew for every GPU. What was chosen for one that the agent does not remember any more is dropped.

        An agent that knows no GPU yet keeps all choices: they are for when the driver lists them.
        """
        chosen: dict[GpuUuid, PolicyMatch] = {}
        for gpu in gpus:
            before = known.choices.get(gpu.uuid)
            now = matched_policy(known.rules.values(), known.labels or {}, gpu, before)
            chosen[gpu.uuid] = now
            if now.tied and (before is None or before.tied != now.tied):
                self._ports.events.emit(policy_tied(gpu, now))
            if before is None or before.rule != now.rule:
                name = now.rule.name if now.rule is not None else ""
                log.info("policy governs", extra=keys(gpu=gpu.uuid, policy=name or "none"))
        self._rules = {uuid: effective_policy(each, self._base) for uuid, each in chosen.items()}
        choices = chosen or known.choices
        with self._lock:
            is_newest = self._known is known
            self._known = replace(self._known, choices=choices)
            return self._known if is_newest else replace(known, choices=choices)

    def _misfit(self, rule: PolicyRule) -> str:
        """Why the rule can't hold together with the agent's own values; empty where it can."""
        try:
            values = asdict(policy_with(dict(rule.health), self._base))
        except ValueError as error:
            return as_object_fields(f"spec.health: {error}", asdict(self._base))
        unfit = poll_interval_conflict(values, self._poll_seconds)
        return as_object_fields(f"spec.health: {unfit}", values) if unfit else ""

    def _save(self, known: KnownPolicies) -> None:
        try:
            self._file.save(msgspec.json.encode(known))
        except DurableFileError as error:
            self._ports.storage.failed(self._file.path, error)
            return
        self._ports.storage.saved(self._file.path)
        self._saved = known
